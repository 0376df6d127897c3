/**
 * The life of the keys that sign JWT-SVIDs, as plain data and a function of time: prepared (published, not used), active
 * (signs), retired (published until every token that it signed has ended). Exactly one is active, by the shape alone.
 *
 * Processes that share a store agree without talking: when a key stops signing is written down before it starts, and is
 * only ever moved later while it could matter. So nobody who holds an old ring signs with a key that another has retired.
 */
export interface JwtPublicKey {
  /** RFC 7638 thumbprint of the key. */
  readonly keyId: string;
  /** Coordinates of a P-256 point in base64url, as in a JWK (RFC 7518 §6.2.1). */
  readonly x: string;
  readonly y: string;
}

export interface JwtSealedKey extends JwtPublicKey {
  /** The private half, encrypted. */
  readonly sealed: Buffer;
}

/** Times are ms since the epoch. */
export interface JwtKeyRing {
  /** Moves by one whenever the set of published keys changes, and only then. */
  readonly sequence: number;
  readonly active: {
    readonly key: JwtSealedKey;
    readonly publishedAt: number;
    /** It signs before this time only. */
    readonly signsUntil: number;
    /** No token that it signed, or will sign, ends later. */
    readonly tokensUntil: number;
  };
  readonly next: { readonly key: JwtSealedKey; readonly publishedAt: number } | undefined;
  readonly retired: readonly { readonly key: JwtPublicKey; readonly publishedUntil: number }[];
}

export interface JwtKeyRingSettings {
  /** How long a key signs. At least twice `leadMs`. */
  readonly keyLifeMs: number;
  /** How long a key is published before it signs. */
  readonly leadMs: number;
  /** The longest life of a token. */
  readonly longestTokenMs: number;
}

export interface RingTime {
  readonly now: number;
  /** Since when the wall clock has been seen to go evenly: what lies before a jump, or a start, proves nothing of real time. */
  readonly steadySince: number;
}

/** Verifiers forgive clocks that are behind by about this much. */
const leewayMs = 5 * 60_000;
/** Only a clock that jumps again and again can retire so many; then the active key goes on, since none may be dropped early. */
const mostRetired = 16;

/**
 * The ring as it has to be now; the same object if nothing is due. The first key of all signs at once, as there is nobody
 * who could hold a bundle without it.
 */
export function advance(
  ring: JwtKeyRing | undefined,
  time: RingTime,
  settings: JwtKeyRingSettings,
  makeKey: () => JwtSealedKey,
): JwtKeyRing {
  if (!ring) return { sequence: 1, active: activated(makeKey(), time.now, time.now, settings), next: undefined, retired: [] };
  return rotated(prepared(pruned(corrected(ring, time, settings), time, settings), time, settings, makeKey), time, settings);
}

/** The active key first, then the next, then the retired ones. */
export function publishedKeys({ active, next, retired }: JwtKeyRing): readonly JwtPublicKey[] {
  return [active.key, ...(next ? [next.key] : []), ...retired.map(({ key }) => key)].map(publicHalf);
}

/** Half of a key's life is hours before the next one is needed: most rotations survive any outage. */
function prepareAt(ring: JwtKeyRing, settings: JwtKeyRingSettings): number {
  return ring.active.signsUntil - settings.keyLifeMs / 2;
}

function isFull(ring: JwtKeyRing): boolean {
  return ring.retired.length >= mostRetired;
}

function activated(key: JwtSealedKey, publishedAt: number, now: number, settings: JwtKeyRingSettings): JwtKeyRing['active'] {
  const signsUntil = now + settings.keyLifeMs;
  return { key, publishedAt, signsUntil, tokensUntil: signsUntil + settings.longestTokenMs };
}

/**
 * What was written under other settings, or by a clock that was ahead. An end that no clock of now could have written
 * is brought near, by so much that everybody has read it before it comes; the tokens of that time keep their key.
 */
function corrected(ring: JwtKeyRing, { now }: RingTime, settings: JwtKeyRingSettings): JwtKeyRing {
  const { active, next } = ring;
  const ahead = active.signsUntil > now + settings.keyLifeMs + settings.leadMs;
  const signsUntil = ahead ? now + settings.keyLifeMs : active.signsUntil;
  const tokensUntil = Math.max(active.tokensUntil, signsUntil + settings.longestTokenMs);
  const nextAhead = next !== undefined && next.publishedAt > now + settings.leadMs;
  if (!nextAhead && signsUntil === active.signsUntil && tokensUntil === active.tokensUntil) return ring;
  return { ...ring, active: { ...active, signsUntil, tokensUntil }, next: nextAhead ? { ...next, publishedAt: now } : next };
}

function pruned(ring: JwtKeyRing, { now, steadySince }: RingTime, settings: JwtKeyRingSettings): JwtKeyRing {
  if (now - steadySince < settings.leadMs) return ring;
  const retired = ring.retired.filter(({ publishedUntil }) => publishedUntil > now);
  return retired.length === ring.retired.length ? ring : { ...ring, sequence: ring.sequence + 1, retired };
}

function prepared(ring: JwtKeyRing, { now }: RingTime, settings: JwtKeyRingSettings, makeKey: () => JwtSealedKey): JwtKeyRing {
  if (ring.next || isFull(ring) || now < prepareAt(ring, settings)) return ring;
  return { ...ring, sequence: ring.sequence + 1, next: { key: makeKey(), publishedAt: now } };
}

function rotated(ring: JwtKeyRing, { now, steadySince }: RingTime, settings: JwtKeyRingSettings): JwtKeyRing {
  const { active, next } = ring;
  if (now < active.signsUntil) return ring;
  const readyAt = next ? Math.max(next.publishedAt, steadySince) + settings.leadMs : now + settings.leadMs;
  if (!next || now < readyAt) {
    // Better the old key for a while than a new one that verifiers may not have yet.
    const tokensUntil = Math.max(active.tokensUntil, readyAt + settings.longestTokenMs);
    return { ...ring, active: { ...active, signsUntil: readyAt, tokensUntil } };
  }
  return {
    ...ring,
    active: activated(next.key, next.publishedAt, now, settings),
    next: undefined,
    retired: [...ring.retired, { key: publicHalf(active.key), publishedUntil: active.tokensUntil + leewayMs }],
  };
}

/** Without its private half: a retired key never signs again. */
function publicHalf({ keyId, x, y }: JwtPublicKey): JwtPublicKey {
  return { keyId, x, y };
}
