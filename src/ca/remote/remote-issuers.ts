import { setTimeout as sleep } from 'node:timers/promises';
import { backoffMs } from '../../base/backoff.ts';
import type { Clock, Random } from '../../base/clock.ts';
import { abortable, deadlineSignal } from '../../base/deadline.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { parseCertificate } from '../../x509/certificate.ts';
import type { Certificate } from '../../x509/certificate.ts';
import { verifyChain } from '../../x509/chain.ts';
import type { AuthorityHealth, SignedChain } from '../authority.ts';
import { createListeners } from '../listeners.ts';

/** A CA that may sign, and what is above it. */
interface IssuerChain {
  readonly signing: Certificate;
  /** From the signing CA up, without the root; empty if the root itself signs. Always the same Buffers: see SignedChain. */
  readonly intermediates: readonly Buffer[];
  readonly root: Buffer;
  readonly endsAt: number;
}

/** The CA certificates of somebody else's CA, from its authenticated endpoint, looked at again and again. */
export interface RemoteIssuers {
  /** Looks for the first time, and goes on in the background. Throws only what waiting doesn't cure: a CA that is away now is asked again. */
  start(signal: AbortSignal): Promise<void>;
  anchors(signal: AbortSignal): Promise<readonly Buffer[]>;
  /** The key of a signing CA; asks for the CA first if it isn't known yet. */
  signing(signal: AbortSignal): Promise<Certificate>;
  /** Until when the CA lives that lives longest; Infinity while none is known. */
  endsAt(): number;
  /** The leaf with the CAs above it, as this endpoint names them. Throws AUTHORITY_MISBEHAVED if none of them issued it. */
  complete(leaf: Buffer, signal: AbortSignal): Promise<SignedChain>;
  /** Asks now, whether it answers. */
  health(signal: AbortSignal): Promise<AuthorityHealth>;
  onChange(listener: () => void): () => void;
  close(): void;
}

export interface RemoteIssuersOptions {
  readonly name: string;
  /** Chains in DER, each from a signing CA up to its root. Throws a SignetError with one of the AUTHORITY_ codes. */
  readonly read: (signal: AbortSignal) => Promise<readonly (readonly Buffer[])[]>;
  readonly everyMs: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

const readMs = 30_000;
const retry = { baseMs: 1000, maxMs: 30_000 };
const mostChains = 50;

export function createRemoteIssuers({ name, read, everyMs, clock, random, log }: RemoteIssuersOptions): RemoteIssuers {
  const listeners = createListeners(log);
  const closed = new AbortController();
  let chains: readonly IssuerChain[] = [];
  let anchors: readonly Buffer[] = [];
  let inFlight: Promise<void> | undefined;
  let failures = 0;

  function refresh(signal: AbortSignal): Promise<void> {
    inFlight ??= attempt().finally(() => {
      inFlight = undefined;
    });
    return abortable(inFlight, signal);
  }

  async function attempt(): Promise<void> {
    const signal = deadlineSignal(readMs, closed.signal);
    try {
      take(await abortable(read(signal), signal));
      failures = 0;
    } catch (error) {
      failures++;
      if (error instanceof SignetError && error.code === 'DEADLINE_EXCEEDED')
        throw new SignetError('AUTHORITY_UNAVAILABLE', `${name} does not answer when asked for its CA certificates`, { cause: error });
      throw error;
    }
  }

  function take(given: readonly (readonly Buffer[])[]): void {
    if (given.length > mostChains) throw new SignetError('AUTHORITY_MISCONFIGURED', `${name} names more than ${mostChains} CAs`);
    const judged = given.map((chain) => judge(chain, clock.now()));
    const usable = judged.filter((chain) => typeof chain !== 'string');
    for (const fault of judged)
      if (typeof fault === 'string') log.warn({ authority: name }, `a CA certificate of the backend is not used: ${fault}`);
    if (usable.length === 0) {
      const [fault] = judged.filter((chain) => typeof chain === 'string');
      throw new SignetError('AUTHORITY_MISCONFIGURED', `${name} has no CA that can be used: ${fault ?? 'it names none'}`);
    }
    if (fingerprint(usable) === fingerprint(chains)) return;
    const roots = usable.map(({ root }) => root);
    chains = usable;
    anchors = roots.filter((root, at) => roots.findIndex((other) => other.equals(root)) === at);
    log.info({ authority: name, cas: usable.map(({ signing }) => signing.subjectText) }, 'CA certificates of the backend read');
    listeners.notify();
  }

  async function keepReading(): Promise<void> {
    while (!closed.signal.aborted) {
      const pause = failures === 0 ? everyMs * (0.9 + 0.2 * random()) : Math.min(everyMs, backoffMs(failures - 1, retry, random));
      await sleep(pause, undefined, { signal: closed.signal, ref: false });
      await refresh(closed.signal).catch((error: unknown) => {
        if (!closed.signal.aborted)
          log.warn({ authority: name, err: error }, "the backend's CA certificates can't be read; the last ones are used");
      });
    }
  }

  async function known(signal: AbortSignal): Promise<void> {
    if (chains.length === 0) await refresh(signal);
  }

  return {
    async start(signal) {
      try {
        await refresh(signal);
      } catch (error) {
        if (!isPassing(error)) throw error;
        log.warn({ authority: name, err: error }, 'the CA backend does not answer at the start; it is asked again until it does');
      }
      keepReading().catch((error: unknown) => {
        if (!closed.signal.aborted) log.error({ authority: name, err: SignetError.from(error) }, 'reading the CA certificates has stopped');
      });
    },
    async anchors(signal) {
      await known(signal);
      return anchors;
    },
    async signing(signal) {
      await known(signal);
      const [first] = chains;
      if (!first) throw new SignetError('INTERNAL', 'a CA without certificates');
      return first.signing;
    },
    endsAt: () => (chains.length === 0 ? Infinity : Math.max(...chains.map(({ endsAt }) => endsAt))),
    async complete(leafDer, signal) {
      const leaf = parseLeaf(name, leafDer);
      let above = issuerOf(leaf, chains);
      if (!above) {
        // A CA that is newer than our last look. Its certificate comes from the CA's own endpoint, or not at all.
        await refresh(signal);
        above = issuerOf(leaf, chains);
      }
      if (!above) throw new SignetError('AUTHORITY_MISBEHAVED', `${name} signed with a CA that it does not name among its own`);
      return {
        certificates: [leafDer, ...above.intermediates],
        issuerKeyId: leaf.authorityKeyId ?? above.signing.subjectKeyId ?? above.signing.spkiSha256,
      };
    },
    async health(signal) {
      try {
        await refresh(signal);
        const ends = new Date(Math.max(...chains.map(({ endsAt }) => endsAt))).toISOString();
        return { canSign: true, detail: `it answers; its CA certificates are good until ${ends}` };
      } catch (error) {
        return { canSign: false, detail: SignetError.from(error).message };
      }
    },
    onChange: listeners.add,
    close() {
      closed.abort();
    },
  };
}

function parseLeaf(name: string, der: Buffer): Certificate {
  try {
    return parseCertificate(der);
  } catch (error) {
    throw new SignetError('AUTHORITY_MISBEHAVED', `${name} returned something that is not a certificate`, { cause: error });
  }
}

function issuerOf(leaf: Certificate, chains: readonly IssuerChain[]): IssuerChain | undefined {
  return chains.find(
    ({ signing }) =>
      signing.subject.equals(leaf.issuer) &&
      (leaf.authorityKeyId === undefined || signing.subjectKeyId === undefined || leaf.authorityKeyId === signing.subjectKeyId),
  );
}

/** The chain, verified up to its self-signed root, or why it can't be used. */
function judge(chain: readonly Buffer[], now: number): IssuerChain | string {
  const root = chain.at(-1);
  if (!root) return 'an empty chain';
  try {
    const parsed = chain.map(parseCertificate);
    const top = parsed.at(-1);
    const [signing] = parsed;
    if (!top?.subject.equals(top.issuer) || !signing) return 'its chain does not end in a self-signed root';
    const intermediates = chain.slice(0, -1);
    verifyChain(intermediates.length === 0 ? [root] : intermediates, [root], now);
    return { signing, intermediates, root, endsAt: Math.min(...parsed.map(({ notAfter }) => notAfter)) };
  } catch (error) {
    return SignetError.from(error).message;
  }
}

function fingerprint(chains: readonly IssuerChain[]): string {
  return chains
    .map(({ signing, root }) => `${signing.der.toString('base64')} ${root.toString('base64')}`)
    .sort()
    .join('\n');
}

function isPassing(error: unknown): boolean {
  return error instanceof SignetError && (error.code === 'AUTHORITY_UNAVAILABLE' || error.code === 'AUTHORITY_THROTTLED');
}
