import type { Command } from 'commander';
import type { SpiffeId } from '../spiffe/id.ts';
import type { AdminClient } from './admin-client.ts';
import { openAdminClient } from './admin-client.ts';
import type { Binding, Certificate } from './admin-messages.ts';
import { bindingColumns, bindingJson, certificateColumns, certificateJson, certificateText } from './certificate-view.ts';
import { countArgument, dataOption, jsonOption, socketOption, spiffeIdArgument } from './options.ts';
import type { DefineCommand, Session } from './session.ts';
import { examples, printJson } from './session.ts';
import { renderTable } from './table.ts';
import type { Column } from './table.ts';
import { paintFor } from './terminal.ts';

interface Where {
  readonly data: string;
  readonly socket?: string;
  readonly json?: true;
}

interface Bearer {
  readonly identity: SpiffeId;
  readonly instance?: string;
}

export const define: DefineCommand = (command, session) => {
  defineList(command.command('list'), session);
  defineShow(command.command('show'), session);
  defineRenew(command.command('renew'), session);
  defineBindings(command.command('bindings'), session);
  defineUnbind(command.command('unbind'), session);
};

function onServer(command: Command): Command {
  return command.addOption(dataOption()).addOption(socketOption()).addOption(jsonOption());
}

function defineList(command: Command, session: Session): void {
  onServer(command)
    .description('every certificate on record, newest first')
    .option('--identity <spiffe-id>', 'only of this identity', spiffeIdArgument)
    .option('--instance <name>', 'only of this instance, which is usually a pod uid')
    .option('--unexpired', 'only those that have not ended')
    .option('--limit <n>', 'at most so many (default: all)', countArgument);
  examples(command, [
    ['signet certs list --unexpired', 'what is in force'],
    ['signet certs list --identity spiffe://cluster.local/ns/shop/sa/web --limit 5', 'the newest five of one identity'],
    [`signet certs list --json | jq -r '.[].serial'`, 'every serial, for a script'],
  ]);
  command.action((options: Where & Partial<Bearer> & { readonly unexpired?: true; readonly limit?: number }) =>
    withAdmin(options, async (admin) => {
      const pages = admin.certificates({
        spiffeId: options.identity ?? '',
        instance: options.instance ?? '',
        unexpired: options.unexpired ?? false,
        limit: options.limit ?? Number.MAX_SAFE_INTEGER,
      });
      await printPages(session, options, pages, certificateColumns(session.clock.now()), certificateJson, 'No certificates.');
    }),
  );
}

function defineShow(command: Command, session: Session): void {
  onServer(command).description('everything on record about one certificate').argument('<serial>', 'as list prints it, in hex');
  examples(command, [['signet certs show 2fd4e1c67a2d28fced849ee1bb76e739', 'when it was issued, to whom and on what proof']]);
  command.action((serial: string, options: Where) =>
    withAdmin(options, async (admin) => {
      const certificate = await admin.certificate(serial.replaceAll(':', '').toLowerCase());
      if (options.json) printJson(session.terminal, certificateJson(certificate));
      else session.terminal.out(certificateText(certificate, session.clock.now()));
    }),
  );
}

function defineRenew(command: Command, session: Session): void {
  onServer(command)
    .description('issue and push anew, at once, to every instance of an identity that holds a stream')
    .requiredOption('--identity <spiffe-id>', 'whose', spiffeIdArgument)
    .option('--instance <name>', 'of this instance alone');
  examples(command, [['signet certs renew --identity spiffe://cluster.local/ns/shop/sa/web', 'a new certificate for each of its Envoys']]);
  command.action((options: Where & Bearer) =>
    withAdmin(options, async (admin) => {
      const renewed = await admin.renew({ spiffeId: options.identity, instance: options.instance ?? '' });
      if (options.json) printJson(session.terminal, renewed.map(certificateJson));
      else if (renewed.length > 0) session.terminal.out(table(session, certificateColumns(session.clock.now()), renewed));
      if (renewed.length > 0) return;
      session.exitCode = 1;
      session.terminal.err(
        `signet: nothing to renew: no instance of ${options.identity} holds a stream (\`signet status\` shows who does)\n`,
      );
    }),
  );
}

function defineBindings(command: Command, session: Session): void {
  onServer(command).description('the keys that instances in key mode csr have bound');
  examples(command, [['signet certs bindings', 'whose key is where, and until when']]);
  command.action((options: Where) =>
    withAdmin(options, (admin) =>
      printPages(session, options, admin.bindings(), bindingColumns(session.clock.now()), bindingJson, 'No key is bound.'),
    ),
  );
}

function defineUnbind(command: Command, session: Session): void {
  onServer(command)
    .description('take a bound key away: nothing more is signed for it until a key is bound again')
    .requiredOption('--identity <spiffe-id>', 'whose', spiffeIdArgument)
    .requiredOption('--instance <name>', 'of which instance; `signet certs bindings` shows them');
  examples(command, [
    [
      'signet certs unbind --identity spiffe://cluster.local/ns/shop/sa/web --instance 0b7f9c1e-5d0a-4f55-9d3b-1f6c2a7e8d90',
      'a key that may have leaked',
    ],
  ]);
  command.action((options: Where & Required<Bearer>) =>
    withAdmin(options, async (admin) => {
      const unbound = await admin.unbind({ spiffeId: options.identity, instance: options.instance });
      if (!unbound) session.exitCode = 1;
      if (options.json) printJson(session.terminal, { spiffeId: options.identity, instance: options.instance, unbound });
      else if (unbound) session.terminal.out('Unbound. `signet csr` on its host binds a new key.\n');
      else session.terminal.err('signet: no key was bound there; `signet certs bindings` shows what is\n');
    }),
  );
}

async function withAdmin(where: Where, work: (admin: AdminClient) => Promise<void>): Promise<void> {
  const admin = openAdminClient(where);
  try {
    await work(admin);
  } finally {
    admin.close();
  }
}

function table<Row extends Certificate | Binding>({ terminal }: Session, columns: readonly Column<Row>[], rows: readonly Row[]): string {
  return renderTable(columns, rows, paintFor(terminal).bold);
}

/** JSON is one array however many pages there are; the table is laid out over all rows. */
async function printPages<Row extends Certificate | Binding>(
  session: Session,
  { json }: Where,
  pages: AsyncIterable<readonly Row[]>,
  columns: readonly Column<Row>[],
  toJson: (row: Row) => object,
  none: string,
): Promise<void> {
  const rows: Row[] = [];
  for await (const page of pages) rows.push(...page);
  if (json) printJson(session.terminal, rows.map(toJson));
  else if (rows.length > 0) session.terminal.out(table(session, columns, rows));
  else session.terminal.err(`${none}\n`);
}
