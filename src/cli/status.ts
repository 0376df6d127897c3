import { openAdminClient } from './admin-client.ts';
import type { AdminClient } from './admin-client.ts';
import type { ServerStatus } from './admin-messages.ts';
import { dataOption, jsonOption, socketOption } from './options.ts';
import type { DefineCommand, Session } from './session.ts';
import { examples, printJson } from './session.ts';
import { statusJson, statusText } from './status-view.ts';
import { SignetError } from '../base/errors.ts';

interface StatusOptions {
  readonly data: string;
  readonly socket?: string;
  readonly watch?: true;
  readonly json?: true;
}

/** Home, and clear from there to the end: the picture is replaced without a flicker. */
const redraw = '\u001b[H\u001b[J';

export const define: DefineCommand = (command, session) => {
  command
    .addOption(dataOption())
    .addOption(socketOption())
    .option('--watch', 'stay, and show each change')
    .addOption(jsonOption('print JSON; with --watch a line for each change'))
    .addHelpText(
      'after',
      `
Exits with 1 if the server can't sign. A stream's secret is \`acknowledged\` when its Envoy took it, \`rejected\` when it
refused (the last good one stays in force), \`pending-key\` when the private key's file is missing on its host.`,
    );
  examples(command, [
    ['signet status', 'one look'],
    ['signet status --watch', 'live, until Ctrl-C'],
    [`signet status --json | jq '.streams[].secrets[] | select(.state == "rejected")'`, 'what any Envoy refused'],
  ]);
  command.action(async (options: StatusOptions) => {
    const admin = openAdminClient(options);
    try {
      if (options.watch) await watch(admin, options, session);
      else show(await admin.status(), options, session);
    } finally {
      admin.close();
    }
  });
};

function show(status: ServerStatus, { json }: StatusOptions, session: Session): void {
  const { terminal } = session;
  session.exitCode = status.ready ? 0 : 1;
  if (json) printJson(terminal, statusJson(status));
  else terminal.out(statusText(status, terminal));
}

async function watch(admin: AdminClient, { json }: StatusOptions, { terminal }: Session): Promise<void> {
  const signal = terminal.interrupted();
  for await (const status of admin.watchStatus(signal)) {
    if (json) terminal.out(`${JSON.stringify(statusJson(status))}\n`);
    else if (terminal.interactive) terminal.out(redraw + statusText(status, terminal));
    else terminal.out(`${statusText(status, terminal)}\n`);
  }
  if (!signal.aborted) throw new SignetError('AUTHORITY_UNAVAILABLE', 'the server went away');
}
