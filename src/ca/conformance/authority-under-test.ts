import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { SignetError } from '../../base/errors.ts';
import type { ErrorCode } from '../../base/errors.ts';
import { spiffeId } from '../../spiffe/id.ts';
import type { TrustDomain } from '../../spiffe/id.ts';
import { parseCertificate } from '../../x509/certificate.ts';
import { checkIssued } from '../../x509/chain.ts';
import { createCsr } from '../../x509/csr.ts';
import { sha256Hex } from '../../x509/keys.ts';
import type { Authority, SignedChain, SigningRequest } from '../authority.ts';

/** What only the one who runs the CA can do to it. */
export interface AuthorityFaults {
  /** Nobody answers from now on; `start` brings the same CA back at the same address. */
  readonly outage: { stop(): Promise<void>; start(): Promise<void> };
  /** Opens an authority whose credential the CA refuses. */
  openRefused(): Promise<Authority>;
  /** Opens one that names something that the CA doesn't have: a role, a template, an issuer. */
  openMisconfigured(): Promise<Authority>;
  /** From now on the CA says "too many requests"; what is returned ends that. */
  throttle(): Promise<() => Promise<void>>;
  /** The CA gets a new root and signs under it from now on. The suite's last case: nothing is put back. */
  rotate(): Promise<void>;
  /** Resolves when the credential that `opened` signed in with can't be valid any more unless it was renewed. */
  outliveCredential(opened: Authority): Promise<void>;
}

export type FaultName = keyof AuthorityFaults;

export interface AuthorityUnderTest {
  readonly trustDomain: TrustDomain;
  /** Certificates between leaf and root in what it returns; undefined if that isn't known beforehand. */
  readonly intermediates: number | undefined;
  /** The shortest life that this CA can give, in ms. */
  readonly shortestLifeMs: number;
  /** After a close it may be opened again, and is the same CA. */
  open(): Promise<Authority>;
  readonly faults: Partial<AuthorityFaults>;
}

/** An authority that is open, from case to case. */
export interface OpenAuthority {
  readonly subject: AuthorityUnderTest;
  authority: Authority;
}

export interface AuthorityCase {
  readonly name: string;
  /** What the harness must be able to do, or the case is not run. */
  readonly needs?: FaultName;
  run(held: OpenAuthority): Promise<void>;
}

export const never: AbortSignal = new AbortController().signal;
export const cancellationMs = 100;
/** How long a CA that is back, or a new root, may take to be noticed. */
export const noticeMs = 60_000;

/** The second that is a minute ago: leaves are backdated. */
export function aMinuteAgo(): number {
  return Math.floor(Date.now() / 1000) * 1000 - 60_000;
}

export type KeyMaker = () => ReturnType<typeof generateKeyPairSync>;
const p256: KeyMaker = () => generateKeyPairSync('ec', { namedCurve: 'P-256' });

/** A request as the issuing pipeline makes it, for a new key. */
export function signingRequest(trustDomain: TrustDomain, fields: Partial<SigningRequest> = {}, makeKey: KeyMaker = p256): SigningRequest {
  const { privateKey, publicKey } = makeKey();
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const id = fields.spiffeId ?? spiffeId(trustDomain, ['ns', 'shop', 'sa', 'web']);
  const notBefore = fields.notBefore ?? aMinuteAgo();
  return {
    spiffeId: id,
    spki,
    spkiSha256: sha256Hex(spki),
    csr: () => createCsr({ privateKey, spki }, [id]),
    notBefore,
    notAfter: notBefore + 60_000 + 3_600_000,
    ...fields,
  };
}

export const request = (held: OpenAuthority, fields: Partial<SigningRequest> = {}, makeKey?: KeyMaker): SigningRequest =>
  signingRequest(held.subject.trustDomain, fields, makeKey);
export const leafOf = ({ certificates }: SignedChain) => parseCertificate(certificates[0]);

/** As the issuing pipeline verifies it. */
export async function verify(held: OpenAuthority, asked: SigningRequest, { certificates }: SignedChain): Promise<void> {
  const { spkiSha256, spiffeId: id, notAfter } = asked;
  const expected = { spkiSha256, spiffeId: id, notAfter };
  checkIssued({ chain: certificates, anchors: await held.authority.anchors(never), at: Date.now(), expected });
}

export async function fails(work: () => Promise<unknown>, codes: readonly ErrorCode[]): Promise<SignetError> {
  let error: unknown;
  try {
    await work();
  } catch (thrown) {
    error = thrown;
  }
  if (!(error instanceof SignetError))
    throw new Error(`expected a SignetError of ${codes.join(' or ')}`, { cause: error ?? 'it succeeded' });
  assert.ok(codes.includes(error.code), `expected ${codes.join(' or ')}, got ${error.code}: ${error.message}`);
  assert.notEqual(error.message, '');
  return error;
}

/** A fault may show when the authority is opened or when it signs. */
export async function openingOrSigning(held: OpenAuthority, open: () => Promise<Authority>): Promise<void> {
  const authority = await open();
  try {
    await authority.sign(request(held), never);
  } finally {
    await authority.close();
  }
}

export async function within(ms: number, what: string, attempt: () => Promise<void>): Promise<void> {
  const until = Date.now() + ms;
  for (;;) {
    try {
      await attempt();
      return;
    } catch (error) {
      if (Date.now() > until) throw new Error(`${what}: not within ${String(ms)} ms`, { cause: error });
      await sleep(250);
    }
  }
}

/** Another order of the same roots is the same answer. */
export function fingerprints(anchors: readonly Buffer[]): string[] {
  return anchors.map((der) => sha256Hex(der)).sort();
}
