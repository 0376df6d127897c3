import type { Clock } from '../base/clock.ts';
import { askWithCsr } from '../api/named-csr.ts';
import { deadlineSignal } from '../base/deadline.ts';
import type { ErrorCode } from '../base/errors.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { readToken } from '../base/token-file.ts';
import type { RenewalEvent } from '../rotation/renewer.ts';
import type { SpiffeId, TrustDomain } from '../spiffe/id.ts';
import { isSpiffeId, trustDomainOf } from '../spiffe/id.ts';
import { checkIssued, verifyChain } from '../x509/chain.ts';
import { generateKeyPair, privateKeyPem } from '../x509/keys.ts';
import type { KeyAlgorithm, KeyPair } from '../x509/keys.ts';
import type { TrustVersions } from './trust-versions.ts';
import { isAway } from './upstream.ts';
import type { Credential, Upstream } from './upstream.ts';
import type { TrustVersion, WorkloadMaterial, WorkloadMaterialFeed } from './workload-material.ts';

/** Material together with when its certificate was had: what its next renewal is counted from. */
export interface HeldMaterial {
  readonly material: WorkloadMaterial;
  readonly issuedAt: number;
}

export interface WorkloadParts {
  readonly name: string;
  readonly trustDomain: TrustDomain;
  readonly tokenFile: string;
  readonly keyType: KeyAlgorithm;
  /** The identity that its token must stand for, if it is configured. */
  readonly spiffeId: SpiffeId | undefined;
  readonly renewByCertificate: boolean;
  readonly upstream: Pick<Upstream, 'call'>;
  readonly trustVersions: TrustVersions;
  /** From the cache, verified. */
  readonly initial: HeldMaterial | undefined;
  /** After each change, when everybody has been told. */
  readonly keep: (held: HeldMaterial) => void;
  /** How long it took from making a key to everybody being told of its certificate. */
  readonly renewed: (seconds: number) => void;
  readonly clock: Clock;
  readonly log: Log;
}

export interface Workload {
  readonly name: string;
  readonly feed: WorkloadMaterialFeed;
  /** Why the newest try failed; undefined after one that didn't. */
  failure(): SignetError | undefined;
  /** Gets a new certificate for a new key, unless that is under way. Never rejects: what fails is told to `onEvent`. */
  renew(): Promise<void>;
  /** Takes anchors of its trust domain. Throws INVALID_ARGUMENT if they can't be used, or are other ones of an older generation than those held. */
  takeTrust(generation: number, anchors: readonly Buffer[]): void;
  /** With its token; with its certificate if it has no token that is taken, and may. */
  withCredential<T>(work: (credential: Credential) => Promise<T>): Promise<T>;
  /** What renewals are planned by. Returns how to stop. */
  onEvent(listener: (event: RenewalEvent) => void): () => void;
  /** The event of what is held already, for whoever comes later. */
  lastPublished(): RenewalEvent | undefined;
  close(): void;
}

interface SignedCertificate {
  readonly chain: readonly Buffer[];
  readonly anchors: readonly Buffer[];
  readonly spiffeId: string;
  readonly trustGeneration: number;
}

const renewalMs = 30_000;
/** Servers that are away may be back at any moment, and workloads are to have what they need within five seconds of it. */
const longestRetryWhileAwayMs = 3000;
const tokenFaults: ReadonlySet<ErrorCode> = new Set(['UNAUTHENTICATED', 'TOKEN_EXPIRED']);

/** One workload's identity over time: a new key and certificate at each renewal, the last good ones until they are verified. */
export function createWorkload(parts: WorkloadParts): Workload {
  const { name, clock, log, trustDomain } = parts;
  const listeners = new Set<() => void>();
  const eventListeners = new Set<(event: RenewalEvent) => void>();
  const closing = new AbortController();
  let held = parts.initial;
  let trust = held?.material.anchors.get(trustDomain);
  let renewing: Promise<void> | undefined;
  let failures = 0;
  let failure: SignetError | undefined;
  let fellBack = false;

  async function renew(): Promise<void> {
    const startedAt = performance.now();
    const signal = deadlineSignal(renewalMs, closing.signal);
    try {
      const next = await obtain(signal);
      if (closing.signal.aborted) return;
      failures = 0;
      failure = undefined;
      publish(next);
      parts.renewed((performance.now() - startedAt) / 1000);
      log.info(
        { workload: name, spiffeId: next.material.spiffeId, serial: next.material.chain.serial, notAfter: next.material.chain.notAfter },
        'certificate renewed',
      );
      tell(publishedEvent(next));
    } catch (error) {
      if (closing.signal.aborted) return;
      failure = SignetError.from(error);
      failures++;
      const { code, retryAfterMs } = failure;
      const notAfter = held?.material.chain.notAfter;
      log.warn({ workload: name, err: failure, code, failures, notAfter }, 'no new certificate; what is held stays until it ends');
      tell({
        name,
        kind: 'failed',
        failures,
        notAfter,
        retryAfterMs,
        ...(isAway(code) ? { longestRetryMs: longestRetryWhileAwayMs } : {}),
      });
    }
  }

  async function obtain(signal: AbortSignal): Promise<HeldMaterial> {
    const key = generateKeyPair(parts.keyType);
    const signed = await askWithCsr(key, (csr) =>
      withCredential((credential) => parts.upstream.call<SignedCertificate>('SignCertificate', { csr }, credential, signal)),
    );
    return verified(signed, key);
  }

  /** As strictly as the server judged it: nothing replaces what is held before it has been verified here. */
  function verified(signed: SignedCertificate, key: KeyPair): HeldMaterial {
    const issuedAt = clock.now();
    const spiffeId = expectedId(signed.spiffeId);
    const newest = newer(parts.trustVersions.checked(signed.trustGeneration, signed.anchors));
    const chain = checkIssued({
      chain: signed.chain,
      anchors: newest.anchors.certificates,
      at: issuedAt,
      expected: { spkiSha256: key.spkiSha256, spiffeId, notAfter: Number.POSITIVE_INFINITY },
    });
    trust = newest;
    return { material: materialOf(spiffeId, chain, key.privateKey, newest), issuedAt };
  }

  /** A socket is one identity's for as long as the agent runs: its clients chose it for what it was. */
  function expectedId(said: string): SpiffeId {
    if (!isSpiffeId(said) || trustDomainOf(said) !== trustDomain)
      throw new SignetError('AUTHORITY_MISBEHAVED', `the server certified something outside of the trust domain ${trustDomain}`);
    const expected = parts.spiffeId ?? held?.material.spiffeId;
    if (expected !== undefined && said !== expected)
      throw new SignetError('PERMISSION_DENIED', `the token in ${parts.tokenFile} stands for ${said}, and this socket is ${expected}'s`);
    return said;
  }

  function newer(next: TrustVersion): TrustVersion {
    return trust && trust.generation > next.generation ? trust : next;
  }

  function materialOf(
    spiffeId: SpiffeId,
    chain: WorkloadMaterial['chain'],
    key: WorkloadMaterial['key'],
    anchors: TrustVersion,
  ): WorkloadMaterial {
    const generation = (held?.material.generation ?? 0) + 1;
    return { generation, spiffeId, chain, key, anchors: new Map([[trustDomain, anchors]]) };
  }

  function publish(next: HeldMaterial): void {
    held = next;
    for (const listener of [...listeners]) listener();
    parts.keep(next);
  }

  function tell(event: RenewalEvent): void {
    for (const listener of [...eventListeners]) listener(event);
  }

  function publishedEvent({ material, issuedAt }: HeldMaterial): RenewalEvent {
    const { notBefore, notAfter } = material.chain;
    return { name, kind: 'published', issuedAt, notBefore, notAfter, final: false };
  }

  async function withCredential<T>(work: (credential: Credential) => Promise<T>): Promise<T> {
    let refusal: SignetError;
    try {
      const result = await work({ kind: 'token', token: await freshToken() });
      fellBack = false;
      return result;
    } catch (error) {
      refusal = SignetError.from(error);
      if (!tokenFaults.has(refusal.code)) throw refusal;
    }
    const certificate = ownCertificate();
    if (!certificate) throw refusal;
    if (!fellBack) log.warn({ workload: name, err: refusal }, 'the token is not taken; asking with the certificate that is held');
    fellBack = true;
    return work(certificate);
  }

  /** Read each time: the kubelet swaps a link under the name. */
  async function freshToken(): Promise<string> {
    try {
      return await readToken(parts.tokenFile);
    } catch (error) {
      throw new SignetError('UNAUTHENTICATED', `no token can be read from ${parts.tokenFile}`, { cause: error });
    }
  }

  function ownCertificate(): Credential | undefined {
    if (!parts.renewByCertificate || !held || held.material.chain.notAfter <= clock.now()) return undefined;
    return { kind: 'certificate', chainPem: held.material.chain.pems.join(''), keyPem: privateKeyPem(held.material.key) };
  }

  const workload: Workload = {
    name,
    feed: {
      current: () => held?.material,
      subscribe(listener) {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
    },
    failure: () => failure,
    renew() {
      renewing ??= renew().finally(() => {
        renewing = undefined;
      });
      return renewing;
    },
    takeTrust(generation, certificates) {
      const given = parts.trustVersions.checked(generation, certificates);
      const next = newer(given);
      // Not silently: who is told nothing takes it for taken.
      if (next !== given && next.anchors.pem !== given.anchors.pem)
        throw new SignetError(
          'INVALID_ARGUMENT',
          `this trust is of generation ${String(generation)}, older than what is held, ${String(next.generation)}`,
        );
      if (next === trust) return;
      trust = next;
      if (!held) return;
      const { spiffeId, chain, key } = held.material;
      publish({ material: materialOf(spiffeId, chain, key, next), issuedAt: held.issuedAt });
      // Roots are retired only when no certificate in force hangs on them, so this is a certificate that nobody knew of.
      if (!hangsOn(chain.certificates, next, clock.now())) void workload.renew();
    },
    withCredential,
    onEvent(listener) {
      eventListeners.add(listener);
      return () => eventListeners.delete(listener);
    },
    lastPublished: () => held && publishedEvent(held),
    close() {
      closing.abort(new SignetError('CANCELLED', 'the agent is stopping'));
    },
  };
  return workload;
}

function hangsOn(chain: readonly Buffer[], { anchors }: TrustVersion, now: number): boolean {
  try {
    verifyChain(chain, anchors.certificates, now);
    return true;
  } catch {
    return false;
  }
}
