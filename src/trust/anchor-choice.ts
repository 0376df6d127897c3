import { sha256Hex } from '../x509/keys.ts';

/** What the operator says of one backend's anchors; hashes are lower-case hex SHA-256 of a certificate's DER. */
export interface AnchorRule {
  /** Only these are trusted; undefined: whatever the authority itself names. */
  readonly approved: ReadonlySet<string> | undefined;
  /** Never trusted, whoever names them. */
  readonly distrusted: ReadonlySet<string>;
}

/** Until when an anchor that its authority no longer names stays, in ms, by the anchor's hash. */
export type Withdrawn = ReadonlyMap<string, number>;

export interface AnchorQuestion {
  /** What the authority names now (DER); empty for one that has left the configuration. */
  readonly offered: readonly Buffer[];
  /** What it contributes to the bundle so far. */
  readonly trusted: readonly Buffer[];
  readonly withdrawn: Withdrawn;
  readonly rule: AnchorRule;
  readonly now: number;
  /** No certificate that was issued before now lives longer than this, in ms. */
  readonly longestLifeMs: number;
}

export interface AnchorChoice {
  /** What it is to contribute from now on. */
  readonly anchors: readonly Buffer[];
  readonly withdrawn: Withdrawn;
  /** Not trusted so far, and trusted from now on. */
  readonly added: readonly Buffer[];
  readonly dropped: readonly Buffer[];
  /** Named by the authority, and neither approved nor distrusted: a person must decide. */
  readonly waiting: readonly Buffer[];
  /** When to ask again because a withdrawn one may go, in ms; undefined if none is. */
  readonly nextAt: number | undefined;
}

/** No policy gives a longer life (90 d), and an hour for backdating and clocks. */
export const absoluteLongestMs = 90 * 86_400_000 + 3_600_000;

/**
 * Which of an authority's anchors are trusted. One that is no longer named stays for as long as a certificate under it
 * can live: the authority has moved on, the workloads have not. Only the operator's word takes one out at once.
 */
export function chooseAnchors({ offered, trusted, withdrawn, rule, now, longestLifeMs }: AnchorQuestion): AnchorChoice {
  const named = new Map(offered.map((der) => [sha256Hex(der), der]));
  const before = new Map(trusted.map((der) => [sha256Hex(der), der]));
  const allowed = (hash: string): boolean => !rule.distrusted.has(hash) && (rule.approved?.has(hash) ?? true);

  const anchors = new Map<string, Buffer>();
  const left = new Map<string, number>();
  for (const [hash, der] of named) if (allowed(hash)) anchors.set(hash, der);
  for (const [hash, der] of before) {
    if (named.has(hash) || !allowed(hash)) continue;
    // What was said when it was withdrawn holds, also if lives are shorter now; but not for ever if the clock was set back since.
    const until = Math.min(withdrawn.get(hash) ?? now + longestLifeMs, now + Math.max(longestLifeMs, absoluteLongestMs));
    if (now >= until) continue;
    anchors.set(hash, der);
    left.set(hash, until);
  }
  const ends = [...left.values()];
  return {
    anchors: [...anchors.values()],
    withdrawn: left,
    added: [...anchors].flatMap(([hash, der]) => (before.has(hash) ? [] : [der])),
    dropped: [...before].flatMap(([hash, der]) => (anchors.has(hash) ? [] : [der])),
    waiting: [...named].flatMap(([hash, der]) => (anchors.has(hash) || rule.distrusted.has(hash) ? [] : [der])),
    nextAt: ends.length === 0 ? undefined : Math.min(...ends),
  };
}
