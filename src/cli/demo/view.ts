import { formatDuration } from '../../base/duration.ts';
import type { ServerStatus } from '../admin-messages.ts';
import { renderTable } from '../table.ts';
import type { Terminal } from '../terminal.ts';
import { paintFor } from '../terminal.ts';
import { relativeTime } from '../times.ts';
import type { DemoSummary, Tally } from './tally.ts';
import { rotations, totals } from './tally.ts';

export interface ShownService {
  readonly name: string;
  readonly spiffeId: string;
  readonly keyMode: 'server' | 'csr';
}

export interface Shown {
  readonly tally: Tally;
  readonly services: readonly ShownService[];
  readonly status: ServerStatus | undefined;
  readonly leafTtl: string;
  readonly now: number;
  /** Requests a second, of late. */
  readonly rate: number;
  readonly admin: string;
}

interface Held {
  readonly serial: string;
  readonly renewAt: number;
  readonly notAfter: number;
}

/** The certificate that the identity's Envoy holds, as the server knows it. */
function heldBy(spiffeId: string, status: ServerStatus | undefined): Held | undefined {
  const secrets = status?.streams.filter((stream) => stream.spiffeId === spiffeId).flatMap((stream) => stream.secrets);
  return secrets?.find((secret) => secret.serial !== '');
}

/** The whole picture, for a terminal. */
export function frame(shown: Shown, terminal: Pick<Terminal, 'colors'>): string {
  const { tally, services, status, now } = shown;
  const paint = paintFor(terminal);
  const serverNow = status?.now ?? now;
  const { requests, failed } = totals(tally);
  const rows = services.map((service) => {
    const seen = tally.services.get(service.name);
    return { ...service, held: heldBy(service.spiffeId, status), seen, rotations: seen ? rotations(seen) : 0 };
  });
  type Row = (typeof rows)[number];
  const table = renderTable<Row>(
    [
      { title: 'IDENTITY', cell: (row) => row.spiffeId },
      { title: 'KEY', cell: (row) => row.keyMode },
      { title: 'SERIAL SEEN BY THE CLIENT', cell: (row) => row.seen?.serials.at(-1) ?? '-' },
      { title: 'NEXT', cell: (row) => relativeTime(row.held?.renewAt ?? 0, serverNow), align: 'right' },
      { title: 'ENDS', cell: (row) => relativeTime(row.held?.notAfter ?? 0, serverNow), align: 'right' },
      { title: 'ROTATIONS', cell: (row) => String(row.rotations), align: 'right' },
    ],
    rows,
    paint.bold,
  );
  const failures = failed === 0 ? paint.green('0 failed') : paint.red(`${String(failed)} failed`);
  const errors = [...tally.services.values()].flatMap((service) => service.errors).slice(-3);
  return `${paint.bold('Signet demo')}: certificates live ${shown.leafTtl} at most; Ctrl-C ends it

  client ══mTLS══▶ [Envoy] web ──▶ [Envoy] ══mTLS══▶ [Envoy] orders
     ╚══════════════════════mTLS═════════════════════▶ [Envoy] orders

${table}
${String(requests)} requests, each on a new connection: ${failures}   ${shown.rate.toFixed(0)} a second, for ${formatDuration(Math.max(0, now - tally.startedAt))}
${errors.map((error) => paint.red(`  ${error}\n`)).join('')}
${paint.dim(`in another terminal:  npx signet status --data ${shown.admin} --watch\n                      npx signet certs list --data ${shown.admin}`)}
`;
}

/** For a log: one line. */
export function line(shown: Shown): string {
  const { requests, failed } = totals(shown.tally);
  const each = shown.services.map(({ name }) => {
    const service = shown.tally.services.get(name);
    return `${name} ${(service?.serials.at(-1) ?? '-').slice(0, 8)} (${String(service ? rotations(service) : 0)} rotations)`;
  });
  return `${formatDuration(Math.max(0, shown.now - shown.tally.startedAt)).padStart(6)}  ${String(requests)} requests, ${String(failed)} failed  ${each.join('  ')}\n`;
}

export function ending(summary: DemoSummary, terminal: Pick<Terminal, 'colors'>): string {
  const paint = paintFor(terminal);
  const failures = summary.failed === 0 ? paint.green('0 failed') : paint.red(`${String(summary.failed)} failed`);
  const services = summary.services.map(
    ({ name, rotations: seen, serials, longestGapMs, errors }) =>
      `  ${name}: ${String(seen)} rotations seen, ${String(serials.length)} distinct serials, longest time without a success ${String(longestGapMs)} ms\n${errors.map((error) => `    ${error}\n`).join('')}`,
  );
  return `${String(summary.requests)} requests in ${String(summary.seconds)} s, each on a new connection: ${failures}\n${services.join('')}`;
}
