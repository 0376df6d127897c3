import { createHash, X509Certificate } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import { bearerKey } from '../identity/caller.ts';
import type { Bearer } from '../identity/caller.ts';
import type { Ledger, SecretView, StreamView } from '../ledger/ledger.ts';
import type { Store } from '../store/store.ts';
import type { JwtKeyView } from '../trust/jwt-keys.ts';
import type { CheckedAnchors } from '../x509/material.ts';
import type { AuthorityStatus } from './authority-health.ts';

/** What a status is made of. */
export interface StatusParts {
  readonly version: string;
  readonly trustDomain: string;
  readonly mode: string;
  readonly startedAt: number;
  readonly clock: Clock;
  readonly readiness: () => { readonly ready: boolean; readonly detail: string };
  readonly trust: () => { readonly generation: number; readonly anchors: CheckedAnchors };
  readonly ledger: Pick<Ledger, 'streams' | 'streamCount'>;
  /** What this instance holds now. */
  readonly held: (bearer: Bearer) => { readonly serial: string | undefined; readonly notAfter: number | undefined } | undefined;
  /** When its renewal is due; by bearerKey. */
  readonly dueAt: (name: string) => number | undefined;
  readonly authorities: () => Promise<readonly AuthorityStatus[]>;
  readonly issued: Pick<Store['issued'], 'countUnexpired'>;
  readonly jwtKeys: () => Pick<JwtKeyView, 'keyId' | 'signsUntil' | 'next'>;
}

const mostStreams = 1000;

/** signet.v1.Status as proto-loader encodes it. */
export async function serverStatus(parts: StatusParts): Promise<object> {
  const now = parts.clock.now();
  const { ready, detail } = parts.readiness();
  const { generation, anchors } = parts.trust();
  const { keyId, signsUntil, next } = parts.jwtKeys();
  const [authorities, certificatesUnexpired] = await Promise.all([parts.authorities(), parts.issued.countUnexpired(now)]);
  return {
    version: parts.version,
    trustDomain: parts.trustDomain,
    mode: parts.mode,
    ready,
    detail: ready ? '' : detail,
    startedAt: parts.startedAt,
    trustGeneration: generation,
    anchors: anchorsOf(anchors),
    streams: parts.ledger
      .streams()
      .slice(0, mostStreams)
      .map((stream) => streamStatus(stream, parts)),
    streamCount: parts.ledger.streamCount,
    certificatesUnexpired,
    now,
    authorities,
    jwtKey: { keyId, signsUntil, nextKeyId: next?.keyId ?? '' },
  };
}

function streamStatus(stream: StreamView, parts: StatusParts): object {
  const { spiffeId, instance = '' } = stream.caller;
  const bearer: Bearer = { spiffeId, instance };
  return {
    id: stream.id,
    spiffeId,
    instance,
    api: stream.api,
    nodeId: stream.nodeId,
    envoyVersion: stream.envoyVersion,
    openedAt: stream.openedAt,
    secrets: stream.secrets.map((secret) => secretStatus(secret, bearer, parts)),
  };
}

function secretStatus(secret: SecretView, bearer: Bearer, parts: StatusParts): object {
  const held = secret.type === 'identity' ? parts.held(bearer) : undefined;
  // Between a renewal and its push, what is held is not what was sent.
  const current = held?.serial !== undefined && held.serial === secret.serial;
  return {
    key: secret.key,
    state: secret.state,
    version: secret.version,
    serial: secret.serial ?? '',
    nackClass: secret.nack?.class ?? '',
    nackDetail: secret.nack?.detail ?? '',
    at: secret.at,
    notAfter: current ? (held.notAfter ?? 0) : 0,
    renewAt: current ? Math.round(parts.dueAt(bearerKey(bearer)) ?? 0) : 0,
  };
}

/** Parsed once for each set of anchors. */
const described = new WeakMap<CheckedAnchors, readonly object[]>();

function anchorsOf(anchors: CheckedAnchors): readonly object[] {
  const known = described.get(anchors);
  if (known) return known;
  const made = anchors.certificates.map((der) => {
    const certificate = new X509Certificate(der);
    return {
      subject: certificate.subject.split('\n').join(', '),
      sha256: createHash('sha256').update(der).digest('hex'),
      notAfter: certificate.validToDate.getTime(),
    };
  });
  described.set(anchors, made);
  return made;
}
