import { Option } from 'commander';
import type { SpiffeId } from '../spiffe/id.ts';
import { openAdminClient } from './admin-client.ts';
import { dataOption, jsonOption, socketOption, spiffeIdArgument } from './options.ts';
import type { DefineCommand, Session } from './session.ts';
import { examples, printJson } from './session.ts';
import { renderTable } from './table.ts';
import { paintFor } from './terminal.ts';
import { isoTime } from './times.ts';

interface DenyOptions {
  readonly data: string;
  readonly socket?: string;
  readonly reason: string;
  readonly lift?: true;
  readonly list?: true;
  readonly json?: true;
}

export const define: DefineCommand = (command, session) => {
  command
    .argument('[spiffe-id]', 'the identity, for example spiffe://cluster.local/ns/shop/sa/web', spiffeIdArgument)
    .addOption(dataOption())
    .addOption(socketOption())
    .option('--reason <text>', 'why, for those who read the list', '')
    .addOption(new Option('--lift', 'take a denial back').conflicts(['list', 'reason']))
    .addOption(new Option('--list', 'list what is denied').conflicts('reason'))
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
Ends the identity's streams at once and issues nothing more to it until lifted, restarts included. Certificates that it
holds already are good until their end: Envoys that were told to trust them ask nobody.`,
    );
  examples(command, [
    ['signet deny spiffe://cluster.local/ns/shop/sa/web --reason "token leaked"', 'stop it'],
    ['signet deny --list', 'who is stopped, since when and why'],
    ['signet deny --lift spiffe://cluster.local/ns/shop/sa/web', 'let it go on'],
  ]);
  command.action(async (id: SpiffeId | undefined, options: DenyOptions) => {
    if (options.list) {
      if (id !== undefined) command.error('signet: --list takes no identity', { exitCode: 2 });
      await list(options, session);
    } else if (id === undefined) {
      command.error('signet: name the identity, or say --list', { exitCode: 2 });
    } else {
      await change(id, options, session);
    }
  });
};

async function list(options: DenyOptions, { terminal }: Session): Promise<void> {
  const admin = openAdminClient(options);
  try {
    const denials = await admin.denials();
    if (options.json) {
      printJson(
        terminal,
        denials.map((denial) => ({ ...denial, at: isoTime(denial.at) })),
      );
      return;
    }
    if (denials.length === 0) terminal.err('No identity is denied.\n');
    else {
      const columns = [
        { title: 'IDENTITY', cell: (denial: (typeof denials)[number]) => denial.spiffeId },
        { title: 'SINCE', cell: (denial: (typeof denials)[number]) => isoTime(denial.at) },
        { title: 'REASON', cell: (denial: (typeof denials)[number]) => denial.reason },
      ];
      terminal.out(renderTable(columns, denials, paintFor(terminal).bold));
    }
  } finally {
    admin.close();
  }
}

async function change(id: SpiffeId, options: DenyOptions, session: Session): Promise<void> {
  const { terminal } = session;
  const admin = openAdminClient(options);
  try {
    if (options.lift) {
      const lifted = await admin.liftDenial(id);
      if (!lifted) session.exitCode = 1;
      if (options.json) printJson(terminal, { spiffeId: id, lifted });
      else if (lifted) terminal.out(`${id} may have certificates again.\n`);
      else terminal.err(`signet: ${id} was not denied; \`signet deny --list\` shows who is\n`);
      return;
    }
    const streamsEnded = await admin.deny(id, options.reason);
    if (options.json) printJson(terminal, { spiffeId: id, denied: true, streamsEnded });
    else terminal.out(`${id} is denied: ${String(streamsEnded)} streams ended, nothing more is issued to it.\n`);
  } finally {
    admin.close();
  }
}
