import type { KeyObject } from 'node:crypto';
import type { Clock } from '../base/clock.ts';
import { abortable, deadlineSignal } from '../base/deadline.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { TrustDomain } from '../spiffe/id.ts';
import { decodeJwtKeyRing, encodeJwtKeyRing } from './jwt-key-document.ts';
import { advance, publishedKeys } from './jwt-key-ring.ts';
import type { JwtKeyRing, JwtKeyRingSettings, JwtPublicKey, RingTime } from './jwt-key-ring.ts';
import { makeJwtKey, openJwtKey, signCompact } from './jwt-key.ts';
import type { JwtKeySeal } from './jwt-key.ts';
import type { BundleState } from './trust-bundle.ts';

/** The keys of one trust domain that are published at one time. */
export interface PublishedJwtKeys {
  readonly keys: readonly JwtPublicKey[];
  /** Moves by one at each change of `keys`. */
  readonly sequence: number;
  /** How often a client should ask, in ms. */
  readonly refreshHintMs: number;
}

export interface JwtKeyView {
  readonly keyId: string;
  /** When the active key was published, and until when it signs, in ms since the epoch. */
  readonly publishedAt: number;
  readonly signsUntil: number;
  readonly next: { readonly keyId: string; readonly publishedAt: number } | undefined;
  readonly retired: number;
}

export interface JwtKeys {
  /**
   * A compact JWS by the active key. Throws AUTHORITY_UNAVAILABLE if it isn't certain which key may sign now, and INTERNAL
   * for a token that would outlive its key's publication.
   */
  sign(claims: { readonly exp: number }, signal: AbortSignal): Promise<{ readonly token: string; readonly keyId: string }>;
  /** Throws AUTHORITY_UNAVAILABLE when another process may be signing with a key that isn't known here. */
  published(signal: AbortSignal): Promise<PublishedJwtKeys>;
  view(): JwtKeyView;
  /** Takes up what another process wrote, and does what is due. */
  refresh(): Promise<void>;
  close(): void;
}

export interface JwtKeysDeps {
  readonly state: BundleState;
  readonly seal: JwtKeySeal;
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
  /** Time that no setting of the clock moves, in ms. */
  readonly elapsed?: () => number;
  readonly log: Log;
  readonly settings: {
    readonly keyLifeMs: number;
    readonly refreshHintMs: number;
    readonly longestTokenMs: number;
  };
  readonly storeTimeoutMs?: number;
}

/** Clients ask once in a hint, and five chances to learn of a key are enough (SPIFFE Federation: three to five); one more is for our own slack. */
export const hintsAhead = 6;
const documentName = 'jwt-signing-keys';
const longestPollMs = 30_000;
const shortestPollMs = 250;
const mostTries = 10;

/**
 * JWT signing keys in the store, shared by as many processes as share it. Durable before they are visible.
 * Throws STORE_CORRUPT, STORE_MISMATCH or KEY_UNSEALABLE.
 */
export async function openJwtKeys(deps: JwtKeysDeps): Promise<JwtKeys> {
  const { state, seal, trustDomain, clock, log } = deps;
  const { refreshHintMs } = deps.settings;
  const elapsed = deps.elapsed ?? ((): number => performance.now());
  const timeoutMs = deps.storeTimeoutMs ?? 5000;
  const settings: JwtKeyRingSettings = { ...deps.settings, leadMs: hintsAhead * refreshHintMs };
  // Both a small part of the hint that the lead has in hand.
  const pollMs = Math.max(shortestPollMs, Math.min(longestPollMs, refreshHintMs / 4));
  const jumpMs = refreshHintMs / 4;
  const closing = new AbortController();
  let steadySince = clock.now();
  let offset = clock.now() - elapsed();
  let held: { readonly ring: JwtKeyRing; readonly privateKey: KeyObject; readonly readAt: number } | undefined;
  let running: Promise<void> | undefined;

  function stored<T>(work: Promise<T>): Promise<T> {
    return abortable(work, deadlineSignal(timeoutMs, closing.signal));
  }

  /** A clock that was set proves nothing of how long a key has been published. */
  function time(): RingTime {
    const now = clock.now();
    const jump = now - elapsed() - offset;
    if (Math.abs(jump) > jumpMs) {
      log.warn({ ms: Math.round(jump) }, 'the clock jumped: the next JWT signing key waits until it has gone evenly for a while');
      steadySince = now;
      offset += jump;
    }
    return { now, steadySince };
  }

  /** Read, decide, write; again from the start if another process wrote in between. */
  async function step(): Promise<void> {
    for (let attempt = 0; attempt < mostTries; attempt++) {
      const readAt = elapsed();
      const entry = await stored(state.read(documentName));
      const before = entry && decodeJwtKeyRing(entry.value, trustDomain);
      const next = advance(before, time(), settings, () => makeJwtKey(seal));
      if (next === before || (await stored(state.compareAndSet(documentName, entry?.epoch ?? 0, encodeJwtKeyRing(next, trustDomain))))) {
        show(next, readAt);
        return;
      }
    }
    throw new SignetError('INTERNAL', 'the JWT signing keys are being changed by too many at once');
  }

  function show(ring: JwtKeyRing, readAt: number): void {
    const before = held?.ring;
    const { key } = ring.active;
    const privateKey = held && before?.active.key.keyId === key.keyId ? held.privateKey : openJwtKey(seal, key);
    held = { ring, privateKey, readAt };
    if (before?.sequence === ring.sequence && before.active.key.keyId === key.keyId) return;
    const { keyId, signsUntil, next, retired } = viewOf(ring);
    log.info({ keyId, signsUntil, next: next?.keyId, retired, sequence: ring.sequence }, 'JWT signing keys');
  }

  /** One at a time; whoever comes meanwhile waits for the same. */
  function refresh(): Promise<void> {
    running ??= step().finally(() => {
      running = undefined;
    });
    return running;
  }

  /** The ring, if it says who signs at this moment and everybody else who reads the store would say the same. */
  function usable(): NonNullable<typeof held> | undefined {
    const isCertain = held && clock.now() < held.ring.active.signsUntil && elapsed() - held.readAt <= settings.leadMs;
    return isCertain ? held : undefined;
  }

  async function certain(signal: AbortSignal): Promise<NonNullable<typeof held>> {
    const now = usable();
    if (now) return now;
    let cause: unknown;
    // Twice: where the store is slow, the little more time that the first gave the old key can be over once it is written.
    for (let attempt = 0; attempt < 2; attempt++) {
      try {
        await abortable(refresh(), signal);
      } catch (error) {
        if (signal.aborted) throw error;
        cause = error;
      }
      const then = usable();
      if (then) return then;
    }
    throw new SignetError('AUTHORITY_UNAVAILABLE', "the JWT signing keys can't be had now", { cause, retryAfterMs: 1000 });
  }

  await refresh();
  // Not by wall-clock deadlines: those would not come for long after a clock that was ahead is set back. Whoever signs
  // when a key's time is over doesn't wait for this.
  const timer = setInterval(() => {
    refresh().catch((error: unknown) => {
      if (!closing.signal.aborted) log.warn({ err: error }, 'the JWT signing keys could not be looked after; it will be tried again');
    });
  }, pollMs);
  timer.unref();

  return {
    async sign(claims, signal) {
      const { ring, privateKey } = await certain(signal);
      const { key, tokensUntil } = ring.active;
      if (claims.exp * 1000 > tokensUntil) throw new SignetError('INTERNAL', 'a token would outlive the publication of its key');
      return { token: signCompact(privateKey, key.keyId, claims), keyId: key.keyId };
    },
    async published(signal) {
      const { ring } = await certain(signal);
      return { keys: publishedKeys(ring), sequence: ring.sequence, refreshHintMs };
    },
    view() {
      if (!held) throw new SignetError('INTERNAL', 'there are no JWT signing keys yet');
      return viewOf(held.ring);
    },
    refresh,
    close() {
      closing.abort(new SignetError('CANCELLED', 'the server is stopping'));
      clearInterval(timer);
    },
  };
}

function viewOf({ active, next, retired }: JwtKeyRing): JwtKeyView {
  return {
    keyId: active.key.keyId,
    publishedAt: active.publishedAt,
    signsUntil: active.signsUntil,
    next: next && { keyId: next.key.keyId, publishedAt: next.publishedAt },
    retired: retired.length,
  };
}
