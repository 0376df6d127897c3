import type { Command } from 'commander';
import { Option } from 'commander';
import { SignetError } from '../base/errors.ts';
import { checkAgentConfig } from '../agent/config/load.ts';
import { agentConfigJsonSchema } from '../agent/config/schema.ts';
import { checkIssuerSettings } from '../identity/issuer-settings.ts';
import { checkPolicySettings } from '../policy/rules.ts';
import { checkConfig } from '../server/config/load.ts';
import type { ConfigProblem } from '../config/problems.ts';
import { formatProblem } from '../config/problems.ts';
import type { Config } from '../server/config/schema.ts';
import { configJsonSchema } from '../server/config/schema.ts';
import { issuerSettings, policySettings } from '../server/config/settings.ts';
import { jsonOption } from './options.ts';
import type { DefineCommand, Session } from './session.ts';
import { examples, printJson } from './session.ts';
import { paintFor } from './terminal.ts';

export const define: DefineCommand = (command, session) => {
  defineCheck(command.command('check'), session);
  defineSchema(command.command('schema'), session);
};

interface CheckOptions {
  readonly config?: string;
  readonly dev?: true;
  readonly agent?: true;
  readonly json?: true;
}

function defineCheck(command: Command, session: Session): void {
  command
    .description('everything that is wrong with a configuration, each with its line and column')
    .argument('[file]', 'the YAML file')
    .option('--config <file>', 'the same, as `signet server` takes it')
    .addOption(new Option('--dev', 'check it as `signet server --dev` would').conflicts('agent'))
    .option('--agent', "it is an agent's")
    .addOption(jsonOption())
    .addHelpText(
      'after',
      '\nThe environment (SIGNET_...) counts, as it does for the server. Exits with 1 if the server, or the agent, would not start with it.',
    );
  examples(command, [
    ['signet config check --config signet.yaml', 'before a roll-out, or in CI'],
    ['signet config check signet.yaml --json', 'for an editor'],
    ['signet config check --agent agent.yaml', "an agent's"],
  ]);
  command.action(async (argument: string | undefined, options: CheckOptions) => {
    const file = argument ?? options.config;
    if (file === undefined) command.error('signet: name the file: signet config check --config FILE', { exitCode: 2 });
    await check(file, options, session);
  });
}

async function check(file: string, options: CheckOptions, session: Session): Promise<void> {
  const { terminal } = session;
  const { config, problems, warnings } = await readable(file, options, terminal.env);
  const all = [...problems, ...(config ? deeperProblems(config, file) : [])];
  if (all.length > 0) session.exitCode = 1;
  if (options.json) {
    printJson(terminal, { ok: all.length === 0, problems: all, warnings });
    return;
  }
  const paint = paintFor(terminal);
  for (const problem of all) terminal.err(`${paint.red('error')} ${formatProblem(problem)}\n`);
  for (const warning of warnings) terminal.err(`${paint.yellow('warning')} ${formatProblem(warning)}\n`);
  if (all.length === 0) terminal.out(`${file}: ok\n`);
}

type Checked = Awaited<ReturnType<typeof checkConfig>>;

/** A file that can't be read is one more problem of the configuration. */
async function readable(file: string, options: CheckOptions, env: Readonly<Record<string, string | undefined>>): Promise<Checked> {
  try {
    if (options.agent) return { config: undefined, warnings: [], problems: (await checkAgentConfig({ file, env })).problems };
    return await checkConfig({ file, env, dev: options.dev ?? false });
  } catch (error) {
    if (!(error instanceof SignetError && error.code === 'CONFIG_INVALID')) throw error;
    return { config: undefined, problems: [{ where: file, path: '', message: error.message, hint: undefined }], warnings: [] };
  }
}

/** What identity and policy know of their own settings, beyond each one's form. */
function deeperProblems(config: Config, file: string): ConfigProblem[] {
  const { issuers } = config.identity;
  return [
    ...checkIssuerSettings(issuers.map(issuerSettings)).map(({ issuer, field, message }) => ({
      path: `identity.issuers[${String(issuers.findIndex(({ id }) => id === issuer))}].${field}`,
      message,
    })),
    ...checkPolicySettings(policySettings(config)).map(({ field, message }) => ({ path: `policy.${field}`, message })),
  ].map((problem) => ({ where: file, ...problem, hint: undefined }));
}

function defineSchema(command: Command, { terminal }: Session): void {
  command.description('the JSON Schema of the configuration file, for editors').option('--agent', "of an agent's");
  examples(command, [
    ['signet config schema > signet.schema.json', 'then "# yaml-language-server: $schema=signet.schema.json" in the file'],
  ]);
  command.action((options: { readonly agent?: true }) => {
    terminal.out(`${JSON.stringify(options.agent ? agentConfigJsonSchema() : configJsonSchema(), undefined, 2)}\n`);
  });
}
