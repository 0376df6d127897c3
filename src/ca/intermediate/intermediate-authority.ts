import { backoffMs } from '../../base/backoff.ts';
import type { Clock, Random } from '../../base/clock.ts';
import { abortable, deadlineSignal } from '../../base/deadline.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { TrustDomain } from '../../spiffe/id.ts';
import { createCsr } from '../../x509/csr.ts';
import { checkIssuedIntermediate } from '../../x509/issued-intermediate.ts';
import { generateKeyPair, sha256Hex } from '../../x509/keys.ts';
import type { Authority } from '../authority.ts';
import { sealCa } from '../ca-key.ts';
import { caSubject, wholeSeconds } from '../ca-name.ts';
import type { CaState } from '../ca-state.ts';
import type { KeySeal } from '../key-seal.ts';
import { signLeaf } from '../leaf-signing.ts';
import { createListeners } from '../listeners.ts';
import { sameCertificates } from '../polled-value.ts';
import { encodeDocument, readDocument } from '../state-document.ts';
import {
  anchorsOf,
  checkTrustDomain,
  intermediateDocumentSchema,
  keyPurpose,
  openSlot,
  withAnchors,
  withNext,
  withSlot,
} from './intermediate-document.ts';
import type { IntermediateDocument, OpenedSlot, Slot } from './intermediate-document.ts';
import { due } from './renewal.ts';
import type { IntermediateUpstream } from './upstream.ts';

export interface IntermediateAuthorityOptions {
  readonly name: string;
  readonly trustDomain: TrustDomain;
  readonly state: CaState;
  readonly seal: KeySeal;
  /** Closed with the authority. */
  readonly upstream: IntermediateUpstream;
  /** The life asked for, in ms. */
  readonly lifeMs: number;
  /** Whether the operator lets this root be trusted at all: what hangs on another is not used. */
  readonly mayTrust: (root: Buffer) => boolean;
  /** How long a root that is new to this trust domain is published before anything is signed under it, in ms. */
  readonly distributionMs: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** What the store has, opened. */
interface Held {
  readonly epoch: number;
  readonly document: IntermediateDocument;
  readonly current: OpenedSlot | undefined;
}

const askMs = 30_000;
const retry = { baseMs: 500, maxMs: 60_000 };
const soonRetryMs = 2000;
const longestPauseMs = 30_000;

/**
 * An intermediate of Signet's own below somebody else's CA: its key is made here and sealed in the store, and leaves are
 * signed in this process. The upstream is needed at half of an intermediate's life only; while it is away the present
 * one signs on until its end. Opens whether or not the upstream answers. Throws STORE_MISMATCH, STORE_CORRUPT or KEY_UNSEALABLE.
 */
export async function openIntermediateAuthority(options: IntermediateAuthorityOptions): Promise<Authority> {
  const { name, trustDomain, state, upstream, clock, random, log } = options;
  const stateName = `ca/intermediate/${name}`;
  const changed = createListeners(log);
  const closed = new AbortController();
  const share = 0.45 + 0.1 * random();
  let held: Held | undefined;
  let working: Promise<void> | undefined;
  let missed = false;
  let failures = 0;
  let failure: SignetError | undefined;
  let retryAt = 0;
  /** By the clock, which may jump; the timer is real. */
  let lookAt = 0;
  let timer: NodeJS.Timeout | undefined;
  held = await load();

  async function load(): Promise<Held | undefined> {
    const stored = await readDocument(state, stateName, intermediateDocumentSchema);
    if (!stored || stored.epoch === held?.epoch) return held;
    const { epoch, value: document } = stored;
    checkTrustDomain(options, document);
    return { epoch, document, current: document.current && openSlot(options, document.current) };
  }

  /** What the store holds after this write, ours or another replica's. */
  async function store(expected: number, document: IntermediateDocument): Promise<void> {
    await state.compareAndSet(stateName, expected, encodeDocument(document));
    const before = held;
    held = await load();
    if (!held) throw new SignetError('STORE_CORRUPT', `the CA state ${stateName} has gone from the store`);
    const { current } = held;
    if (current && !current.slot.certificate.equals(before?.current?.slot.certificate ?? Buffer.alloc(0)))
      log.info(
        { authority: name, issuerKeyId: current.issuer.keyId, ends: new Date(current.issuersEnd).toISOString() },
        'an intermediate CA certificate is in use',
      );
    changed.notify();
  }

  /** Takes up the roots that the upstream names, then does what is due; both by the newest state, which a replica may have made. */
  async function work(): Promise<SignetError | undefined> {
    const signal = deadlineSignal(askMs, closed.signal);
    held = await load();
    const trouble = await takeAnchors(signal);
    if (!held) return trouble;
    const next = due(held.document, clock.now(), { share, mayTrust: options.mayTrust });
    if (next.step === 'nothing') return trouble ?? (await upstreamTrouble(signal));
    if (next.step === 'activate') {
      await store(held.epoch, withNext(held.document, clock.now()));
      return trouble;
    }
    const made = await certified(anchorsNow(), signal);
    await store(held.epoch, withSlot(held.document, made, { ...options, now: clock.now() }));
    log.info({ authority: name, why: next.why }, 'an intermediate CA certificate was made');
    return undefined;
  }

  /** The roots go before anything that hangs on them. Returns why they can't be had: those that are stored are trusted on. */
  async function takeAnchors(signal: AbortSignal): Promise<SignetError | undefined> {
    let named: readonly Buffer[];
    try {
      named = await abortable(upstream.anchors(signal), signal);
    } catch (error) {
      if (!held) throw error;
      return SignetError.from(error);
    }
    if (held && sameCertificates(anchorsNow(), named)) return undefined;
    const before: IntermediateDocument = held?.document ?? { format: 1, trustDomain, anchors: [], retired: [] };
    await store(held?.epoch ?? 0, withAnchors(before, named, clock.now()));
    return undefined;
  }

  /** Of an upstream of which nothing is needed now: told long before it matters. */
  async function upstreamTrouble(signal: AbortSignal): Promise<SignetError | undefined> {
    try {
      const { canSign, detail } = await abortable(upstream.health(signal), signal);
      return canSign ? undefined : new SignetError('AUTHORITY_UNAVAILABLE', detail);
    } catch (error) {
      return SignetError.from(error);
    }
  }

  function anchorsNow(): readonly Buffer[] {
    return held?.document.anchors.map(({ certificate }) => certificate) ?? [];
  }

  /** A new key, certified by the upstream and verified. */
  async function certified(anchors: readonly Buffer[], signal: AbortSignal): Promise<Slot> {
    const now = clock.now();
    const key = generateKeyPair();
    const uri = `spiffe://${trustDomain}`;
    const notAfter = wholeSeconds(now + options.lifeMs);
    const { commonName } = caSubject('intermediate', trustDomain, now);
    const request = { csr: createCsr(key, [uri]), spkiSha256: key.spkiSha256, commonName, notAfter };
    const { certificates } = await abortable(upstream.signIntermediate(request, signal), signal);
    // One that hangs on a root which the upstream has yet to name is none: the next try has the root.
    const expected = { spkiSha256: key.spkiSha256, uri, notAfter, forLeavesOnly: upstream.forLeavesOnly };
    const { certificate, above, root } = checkIssuedIntermediate({ chain: certificates, anchors, at: clock.now(), expected });
    return { ...sealCa(options.seal, keyPurpose(name), certificate.der, key), above: [...above], root, madeAt: now };
  }

  /** One at a time. */
  function run(): Promise<void> {
    working ??= attempt().finally(() => {
      working = undefined;
      lookAt = clock.now() + schedule();
      if (!missed || closed.signal.aborted) return;
      missed = false;
      run().catch(() => undefined);
    });
    return working;
  }

  async function attempt(): Promise<void> {
    try {
      failure = await work();
      failures = 0;
      retryAt = 0;
    } catch (error) {
      failure = SignetError.from(error);
      retryAt = clock.now() + backoffMs(failures++, { ...retry, maxMs: longestRetryMs() }, random);
      if (closed.signal.aborted) return;
      const left = held?.current ? `the present one is good until ${new Date(held.current.issuersEnd).toISOString()}` : 'there is none yet';
      log.error({ authority: name, err: failure }, `no new intermediate CA certificate: ${left}; it is asked for again and again`);
      throw failure;
    }
  }

  /** The nearer the end, the more often: who has none is back within seconds of the upstream's return. */
  function longestRetryMs(): number {
    const left = (held?.current?.issuersEnd ?? 0) - clock.now();
    return Math.min(retry.maxMs, Math.max(soonRetryMs, left / 20));
  }

  function schedule(): number {
    const pause = pauseMs();
    clearTimeout(timer);
    if (closed.signal.aborted) return pause;
    // What fails is logged by attempt().
    timer = setTimeout(() => void run().catch(() => undefined), pause);
    timer.unref();
    return pause;
  }

  /** Often enough for the shortest of lives, and after a jump of the clock. */
  function pauseMs(): number {
    if (retryAt > 0) return Math.max(0, Math.min(retryAt - clock.now(), longestRetryMs()));
    return Math.min(longestPauseMs, Math.max(100, options.lifeMs / 50)) * (0.9 + 0.2 * random());
  }

  const stopListening = upstream.onChange(() => {
    // Who is at work may have asked before the change.
    if (working) missed = true;
    else run().catch(() => undefined);
  });
  run().catch(() => undefined);

  function waitingForApproval(): SignetError | undefined {
    const root = held?.document.next?.root;
    if (!root || options.mayTrust(root)) return undefined;
    return new SignetError(
      'AUTHORITY_MISCONFIGURED',
      `the next intermediate of ${name} hangs on a root that is not approved: if it is right, add ${sha256Hex(root)} to approvedAnchors`,
    );
  }

  /** The intermediate that signs now; made first if there is none. */
  async function ready(signal: AbortSignal): Promise<OpenedSlot> {
    const usable = (): OpenedSlot | undefined => (held?.current && clock.now() < held.current.issuersEnd ? held.current : undefined);
    const present = usable();
    if (present) {
      if (!working && clock.now() >= lookAt) run().catch(() => undefined);
      return present;
    }
    // Many may wait for it: they share a try, and between tries are told why there is none.
    if (!working && failure && clock.now() < retryAt) throw failure;
    await abortable(working ?? run(), signal);
    const made = usable();
    if (made) return made;
    throw (
      waitingForApproval() ??
      failure ??
      new SignetError('AUTHORITY_UNAVAILABLE', `${name} has no intermediate CA certificate that is valid now`)
    );
  }

  return {
    name,
    type: 'intermediate',
    capabilities: { builtHere: true, exactLife: true },
    async sign(request, signal) {
      if (signal.aborted) throw SignetError.from(signal.reason);
      return signLeaf(await ready(signal), request, signal);
    },
    async anchors(signal) {
      if (signal.aborted) throw SignetError.from(signal.reason);
      if (!held) await abortable(working ?? run(), signal);
      if (!held) throw failure ?? new SignetError('AUTHORITY_UNAVAILABLE', `the roots of ${name} are not known yet`);
      return anchorsOf(held.document, clock.now());
    },
    issuersEnd: () => held?.current?.issuersEnd ?? Infinity,
    health() {
      const end = held?.current?.issuersEnd;
      const canSign = end !== undefined && clock.now() < end;
      const until =
        end === undefined
          ? 'it has no intermediate CA certificate yet'
          : `its intermediate ${canSign ? 'is good until' : 'ended at'} ${new Date(end).toISOString()}`;
      const trouble = waitingForApproval() ?? failure;
      return Promise.resolve({ canSign, detail: trouble ? `${until}; ${trouble.message}` : until });
    },
    onChange: changed.add,
    async close() {
      closed.abort(new SignetError('CANCELLED', 'it is being closed'));
      clearTimeout(timer);
      stopListening();
      await working?.catch(() => undefined);
      await upstream.close();
    },
  };
}
