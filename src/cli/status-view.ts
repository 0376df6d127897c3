import { formatDuration } from '../base/duration.ts';
import type { JwtKeyStatus, SecretStatus, ServerStatus, StreamStatus } from './admin-messages.ts';
import { renderTable } from './table.ts';
import type { Column } from './table.ts';
import type { Terminal } from './terminal.ts';
import { harmless } from '../base/harmless.ts';
import { paintFor } from './terminal.ts';
import { isoTime, relativeTime } from './times.ts';

interface Line {
  readonly stream: StreamStatus;
  readonly secret: SecretStatus | undefined;
}

/** The server and its streams, a line for each secret that a stream asked for. */
export function statusText(status: ServerStatus, terminal: Pick<Terminal, 'colors'>): string {
  const paint = paintFor(terminal);
  const { now } = status;
  const ready = status.ready ? paint.green('ready') : `${paint.red('NOT READY')}: ${harmless(status.detail)}`;
  const head = [
    `${paint.bold('signet')} ${status.version} (${status.mode})  ${status.trustDomain}  ${ready}  up for ${formatDuration(Math.max(0, now - status.startedAt))}`,
    ...status.authorities.map(({ name, type, canSign, detail }) => {
      const said = `${canSign ? 'can sign' : "can't sign"}: ${harmless(detail)}`;
      return `CA       ${name} (${type}): ${canSign ? said : paint.red(said)}`;
    }),
    ...status.anchors.map(
      (anchor) => `trusts   ${harmless(anchor.subject)}  sha256:${anchor.sha256.slice(0, 16)}…  ends ${isoTime(anchor.notAfter)}`,
    ),
    ...(status.jwtKey ? [jwtKeyLine(status.jwtKey)] : []),
    `issued   ${String(status.certificatesUnexpired)} certificates in force; trust generation ${String(status.trustGeneration)}`,
    `streams  ${String(status.streamCount)}${status.streams.length < status.streamCount ? `, of which ${String(status.streams.length)} are shown` : ''}`,
  ];
  const lines = status.streams.flatMap((stream): Line[] =>
    stream.secrets.length === 0 ? [{ stream, secret: undefined }] : stream.secrets.map((secret) => ({ stream, secret })),
  );
  const table = lines.length === 0 ? '' : `\n${renderTable(columns(now), lines, paint.bold)}`;
  return `${head.join('\n')}\n${table}${refusals(status)}`;
}

function jwtKeyLine({ keyId, signsUntil, nextKeyId }: JwtKeyStatus): string {
  return `JWT key  ${harmless(keyId)}  signs until ${isoTime(signsUntil)}${nextKeyId === '' ? '' : `, then ${harmless(nextKeyId)}`}`;
}

function columns(now: number): readonly Column<Line>[] {
  return [
    { title: 'IDENTITY', cell: ({ stream }) => stream.spiffeId },
    { title: 'NODE', cell: ({ stream }) => clipped(stream.nodeId, 24) },
    { title: 'ENVOY', cell: ({ stream }) => stream.envoyVersion || '-' },
    { title: 'API', cell: ({ stream }) => stream.api },
    { title: 'SECRET', cell: ({ secret }) => secret?.key.replace(/:.*/, '') ?? '-' },
    { title: 'STATE', cell: ({ secret }) => secret?.state ?? '-' },
    { title: 'SERIAL', cell: ({ secret }) => clipped(secret?.serial ?? '', 16) || '-' },
    { title: 'RENEWS', cell: ({ secret }) => relativeTime(secret?.renewAt ?? 0, now) },
    { title: 'ENDS', cell: ({ secret }) => relativeTime(secret?.notAfter ?? 0, now) },
  ];
}

/** What Envoys said, as the server classified and redacted it. */
function refusals(status: ServerStatus): string {
  const told = status.streams.flatMap((stream) =>
    stream.secrets
      .filter((secret) => secret.nackClass !== '')
      .map((secret) => `${stream.spiffeId} ${secret.key}: ${secret.nackClass}: ${secret.nackDetail}`),
  );
  return told.length === 0 ? '' : `\nRefused:\n${told.map((line) => `  ${harmless(line)}\n`).join('')}`;
}

function clipped(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}

/** As the server says it, with times in ISO 8601. */
export function statusJson(status: ServerStatus): object {
  return {
    ...status,
    startedAt: isoTime(status.startedAt),
    now: isoTime(status.now),
    jwtKey: status.jwtKey && { ...status.jwtKey, signsUntil: isoTime(status.jwtKey.signsUntil) },
    anchors: status.anchors.map((anchor) => ({ ...anchor, notAfter: isoTime(anchor.notAfter) })),
    streams: status.streams.map((stream) => ({
      ...stream,
      openedAt: isoTime(stream.openedAt),
      secrets: stream.secrets.map((secret) => ({
        ...secret,
        at: isoTime(secret.at),
        notAfter: isoTime(secret.notAfter),
        renewAt: isoTime(secret.renewAt),
      })),
    })),
  };
}
