import type { Binding, Certificate } from './admin-messages.ts';
import type { Column } from './table.ts';
import { harmless } from '../base/harmless.ts';
import { isoTime, relativeTime } from './times.ts';

/** How certificates and bindings are shown: in a table, in full, and in JSON, where times are ISO 8601. */
export function certificateColumns(now: number): readonly Column<Certificate>[] {
  return [
    { title: 'SERIAL', cell: (it) => it.serial },
    { title: 'IDENTITY', cell: (it) => it.spiffeId },
    { title: 'INSTANCE', cell: (it) => (it.instance === '' ? '-' : it.instance) },
    { title: 'KEY', cell: (it) => it.keyMode },
    { title: 'ISSUED', cell: (it) => isoTime(it.issuedAt) },
    { title: 'ENDS', cell: (it) => relativeTime(it.notAfter, now) },
  ];
}

export function certificateJson(it: Certificate): object {
  return {
    ...it,
    notBefore: isoTime(it.notBefore),
    notAfter: isoTime(it.notAfter),
    issuedAt: isoTime(it.issuedAt),
    tokenSeenAt: isoTime(it.tokenSeenAt),
  };
}

export function certificateText(it: Certificate, now: number): string {
  const lines: readonly (readonly [string, string])[] = [
    ['Serial', it.serial],
    ['Identity', it.spiffeId],
    ['Instance', it.instance === '' ? '-' : it.instance],
    ['Key mode', it.keyMode],
    ['Public key', `sha256:${it.spkiSha256}`],
    ['Signed by', `${it.authority}, key ${it.issuerKeyId}`],
    ['Valid from', isoTime(it.notBefore)],
    ['Valid until', `${isoTime(it.notAfter)} (${relativeTime(it.notAfter, now)})`],
    ['Issued', `${isoTime(it.issuedAt)} (${relativeTime(it.issuedAt, now)})`],
    [
      'Proved by',
      `${it.authenticatedBy} of issuer ${it.issuer}; ${it.tokenSeenAt === 0 ? 'by a node proxy' : `token seen ${isoTime(it.tokenSeenAt)}`}`,
    ],
    ['Trust', `generation ${String(it.trustGeneration)} handed out with it`],
  ];
  return lines.map(([name, value]) => `${`${name}:`.padEnd(13)}${harmless(value)}\n`).join('');
}

export function bindingColumns(now: number): readonly Column<Binding>[] {
  return [
    { title: 'IDENTITY', cell: (it) => it.spiffeId },
    { title: 'INSTANCE', cell: (it) => it.instance },
    { title: 'KEY FILE', cell: (it) => it.keyFile },
    { title: 'BOUND', cell: (it) => relativeTime(it.boundAt, now) },
    { title: 'KEY ENDS', cell: (it) => relativeTime(it.keyEnds, now) },
    { title: 'USED', cell: (it) => relativeTime(it.lastUsedAt, now) },
  ];
}

export function bindingJson(it: Binding): object {
  return { ...it, boundAt: isoTime(it.boundAt), keyEnds: isoTime(it.keyEnds), lastUsedAt: isoTime(it.lastUsedAt) };
}
