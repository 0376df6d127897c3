import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { backoffMs } from '../base/backoff.ts';
import type { Clock, Random } from '../base/clock.ts';
import { abortable, deadlineSignal } from '../base/deadline.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { KeyIssuerSettings } from './issuer-settings.ts';
import type { JwkSet, VerificationKey } from './jwk-set.ts';
import { longestKeySet, parseJwkSet } from './jwk-set.ts';
import { keyPlace } from './key-location.ts';
import { readSmallFile } from '../base/small-file.ts';

export interface KeySourceLimits {
  /** How long one refresh may take. */
  readonly timeoutMs: number;
  /** An unknown `kid` makes us ask again, but never sooner than this after the last time. */
  readonly floorMs: number;
  readonly refreshEveryMs: number;
  readonly retry: { readonly baseMs: number; readonly maxMs: number };
}

export const remoteSourceLimits: KeySourceLimits = {
  timeoutMs: 5000,
  floorMs: 10_000,
  refreshEveryMs: 300_000,
  retry: { baseMs: 1000, maxMs: 60_000 },
};
/** A file costs next to nothing to look at, and whoever changes one expects to be noticed. */
export const fileSourceLimits: KeySourceLimits = {
  timeoutMs: 2000,
  floorMs: 500,
  refreshEveryMs: 2000,
  retry: { baseMs: 1000, maxMs: 5000 },
};

export interface KeySourceStatus {
  readonly issuer: string;
  readonly keys: number;
  /** When the keys in use were read, in ms; undefined before the first time. */
  readonly readAt: number | undefined;
  /** Since when reading has failed without a success in between. */
  readonly failingSince: number | undefined;
}

/** The public keys of one issuer: the last good ones, whatever has befallen their source since. */
export interface KeySource {
  find(keyId: string): VerificationKey | undefined;
  /** Whether this very key is published now. */
  has(thumbprint: string): boolean;
  /** Asks again, unless that was done just now; concurrent calls share one request. True if the newest attempt succeeded. */
  refresh(signal: AbortSignal): Promise<boolean>;
  status(): KeySourceStatus;
  /** Reads once, then keeps reading until the signal aborts. Resolves after the first attempt, whatever came of it. */
  start(signal: AbortSignal): Promise<void>;
}

export interface KeySourceContext {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly limits?: KeySourceLimits | undefined;
  /** Called after the set of keys changed. */
  readonly changed: () => void;
}

export function createKeySource(issuer: KeyIssuerSettings, context: KeySourceContext): KeySource {
  const { clock, log } = context;
  const place = keyPlace(issuer.keys);
  const limits = context.limits ?? (place.kind === 'file' ? fileSourceLimits : remoteSourceLimits);
  const download = {
    issuer: issuer.issuer,
    caFile: issuer.caFile,
    tokenFile: issuer.tokenFile,
    timeoutMs: limits.timeoutMs,
    limit: longestKeySet,
  };
  const stopped = new AbortController();

  let keys: JwkSet['keys'] = new Map();
  let thumbprints: ReadonlySet<string> = new Set();
  let digest: string | undefined;
  let readAt: number | undefined;
  let attemptedAt: number | undefined;
  let failingSince: number | undefined;
  let failures = 0;
  let inFlight: Promise<boolean> | undefined;

  // An HTTP client takes longer to load than all of this folder, and many servers have their keys in files.
  const downloader = () => import('./key-download.ts');

  async function read(signal: AbortSignal): Promise<string> {
    switch (place.kind) {
      case 'inline':
        return place.text;
      case 'file':
        return (await abortable(readSmallFile(place.path, longestKeySet), deadlineSignal(limits.timeoutMs, signal))).toString('utf8');
      case 'url':
        return (await downloader()).downloadKeySet(place.url, download, signal);
      case 'discovery':
        return (await downloader()).discoverKeySet(place.url, download, signal);
    }
  }

  function take(text: string): void {
    const newDigest = createHash('sha256').update(text).digest('hex');
    if (newDigest === digest) return;
    const set = parseJwkSet(text);
    const usable = new Map([...set.keys].filter(([, key]) => issuer.algorithms.some((algorithm) => key.schemes.has(algorithm))));
    const before = keys;
    digest = newDigest;
    keys = usable;
    thumbprints = new Set([...usable.values()].map((key) => key.thumbprint));
    const changed = before.size !== usable.size || [...usable].some(([keyId, key]) => before.get(keyId)?.thumbprint !== key.thumbprint);
    const fields = {
      issuer: issuer.id,
      keys: [...usable.keys()],
      ...(set.skipped.length > 0 ? { skipped: set.skipped.slice(0, 10) } : {}),
    };
    if (usable.size === 0) log.warn(fields, 'the issuer publishes no key that can verify a token');
    else log.info(fields, 'keys of the issuer read');
    if (changed) context.changed();
  }

  async function attempt(): Promise<boolean> {
    attemptedAt = clock.now();
    try {
      take(await read(stopped.signal));
      readAt = clock.now();
      failingSince = undefined;
      failures = 0;
      return true;
    } catch (error) {
      // What our own end cut short is no fault of the source.
      if (stopped.signal.aborted) return false;
      failures++;
      failingSince ??= attemptedAt;
      const advice = readAt === undefined ? 'its tokens can not be checked until they can be read' : 'those read before stay in use';
      log.warn({ issuer: issuer.id, err: error, readAt, failingSince }, `the keys of the issuer can not be read; ${advice}`);
      return false;
    }
  }

  function refresh(): Promise<boolean> {
    if (inFlight) return inFlight;
    const since = attemptedAt === undefined ? Infinity : clock.now() - attemptedAt;
    // A clock that went back must not silence us: a negative time is no recent one.
    if (since >= 0 && since < limits.floorMs) return Promise.resolve(failures === 0);
    return startAttempt();
  }

  function startAttempt(): Promise<boolean> {
    inFlight ??= attempt().finally(() => {
      inFlight = undefined;
    });
    return inFlight;
  }

  async function keepReading(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(failures === 0 ? limits.refreshEveryMs : backoffMs(failures - 1, limits.retry, context.random), undefined, {
        signal,
        ref: false,
      });
      await startAttempt();
    }
  }

  return {
    find: (keyId) => keys.get(keyId),
    has: (thumbprint) => thumbprints.has(thumbprint),
    refresh: (signal) => abortable(refresh(), signal),
    status: () => ({ issuer: issuer.id, keys: keys.size, readAt, failingSince }),
    async start(signal) {
      signal.addEventListener(
        'abort',
        () => {
          stopped.abort(signal.reason);
        },
        { once: true },
      );
      await abortable(startAttempt(), signal);
      if (place.kind === 'inline') return;
      keepReading(signal).catch((error: unknown) => {
        if (!signal.aborted) log.error({ issuer: issuer.id, err: SignetError.from(error) }, 'reading the keys of the issuer has stopped');
      });
    },
  };
}
