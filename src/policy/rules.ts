import { SignetError } from '../base/errors.ts';
import { formatDuration } from '../base/duration.ts';
import type { SpiffeId, TrustDomain } from '../spiffe/id.ts';
import { pathOf, trustDomainOf } from '../spiffe/id.ts';
import type { PathMatcher } from '../spiffe/pattern.ts';
import { compilePattern, patternProblem } from '../spiffe/pattern.ts';
import { isReservedPath } from '../spiffe/reserved-path.ts';
import { keyDirectoryProblem } from './key-directory.ts';
import type { DownstreamGrant, Grant, KeyMode, Policy, PolicySubject } from './policy.ts';

export interface TierRule {
  /** A pattern over the SPIFFE path. */
  readonly match: string;
  readonly tier?: string | undefined;
  readonly backend?: string | undefined;
  /** Further backends that may be picked by name. */
  readonly certSigners?: readonly string[] | undefined;
}

export interface KeyModeRule {
  readonly match: string;
  readonly mode: KeyMode;
  readonly keyDirectories?: readonly string[] | undefined;
  readonly keyMaxAgeMs?: number | undefined;
}

export interface DownstreamRule {
  /** A pattern over the SPIFFE path of the other Signet. */
  readonly match: string;
  readonly maxTtlMs: number;
  readonly backend?: string | undefined;
}

export interface PolicySettings {
  /** Name to longest life, in ms. */
  readonly tiers: Readonly<Record<string, number>>;
  /** The first that matches wins, whole; what it leaves out is the default's, not the next rule's. */
  readonly rules: readonly TierRule[];
  /** Likewise. */
  readonly keyModes: readonly KeyModeRule[];
  /** Who may run an intermediate CA below ours: nobody, unless a rule says so. */
  readonly downstream?: readonly DownstreamRule[];
  readonly defaults: {
    readonly tier: string;
    readonly backend: string;
    readonly keyMode: KeyMode;
    readonly keyDirectories: readonly string[];
    readonly keyMaxAgeMs: number;
  };
}

export interface PolicyProblem {
  /** For example `rules[2].match`. */
  readonly field: string;
  readonly message: string;
}

const longestTierMs = 90 * 86_400_000;

/** Everything wrong with the settings that shows without knowing the backends. */
export function checkPolicySettings(settings: PolicySettings): PolicyProblem[] {
  const problems: PolicyProblem[] = [];
  const report = (field: string, message: string | undefined): void => {
    if (message !== undefined) problems.push({ field, message });
  };
  const tierNames = Object.keys(settings.tiers);
  const tierProblem = (name: string): string | undefined =>
    Object.hasOwn(settings.tiers, name) ? undefined : `there is no tier "${name}"; there are: ${tierNames.join(', ')}`;
  for (const [name, ms] of Object.entries(settings.tiers)) {
    if (!(ms > 0)) report(`tiers.${name}`, 'a life is longer than nothing');
    if (ms > longestTierMs) report(`tiers.${name}`, `${formatDuration(ms)} is above the absolute maximum of 90d`);
  }
  settings.rules.forEach((rule, i) => {
    report(`rules[${i}].match`, patternProblem(rule.match));
    if (rule.tier !== undefined) report(`rules[${i}].tier`, tierProblem(rule.tier));
  });
  settings.keyModes.forEach((rule, i) => {
    report(`keyModes[${i}].match`, patternProblem(rule.match));
    for (const directory of rule.keyDirectories ?? []) report(`keyModes[${i}].keyDirectories`, keyDirectoryProblem(directory));
    if (rule.keyMaxAgeMs !== undefined && !(rule.keyMaxAgeMs > 0)) report(`keyModes[${i}].keyMaxAge`, 'an age is longer than nothing');
  });
  settings.downstream?.forEach((rule, i) => {
    report(`downstream[${i}].match`, patternProblem(rule.match));
    if (!(rule.maxTtlMs > 0)) report(`downstream[${i}].maxTtl`, 'a life is longer than nothing');
  });
  report('defaults.tier', tierProblem(settings.defaults.tier));
  for (const directory of settings.defaults.keyDirectories) report('defaults.keyDirectories', keyDirectoryProblem(directory));
  return problems;
}

type KeyGrant = Pick<Grant, 'keyMode' | 'keyDirectories' | 'keyMaxAgeMs'>;
type LifeGrant = Pick<Grant, 'tier' | 'maxTtlMs' | 'authority' | 'certSigners'>;

interface Compiled<T> {
  readonly matches: PathMatcher;
  readonly grants: T;
}

/**
 * Who may have what. Nothing is cached: `denied` and the rules are asked at each use, so that a denial holds from the
 * moment it is made. Throws CONFIG_INVALID if the settings are wrong.
 */
export function createPolicy(
  settings: PolicySettings,
  context: { readonly trustDomain: TrustDomain; readonly denied: (id: SpiffeId) => boolean },
): Policy {
  const [problem] = checkPolicySettings(settings);
  if (problem) throw new SignetError('CONFIG_INVALID', `policy.${problem.field}: ${problem.message}`);
  const { defaults } = settings;
  const life = (tier: string, authority: string, certSigners: readonly string[] = []): LifeGrant => ({
    tier,
    maxTtlMs: settings.tiers[tier] ?? 0,
    authority,
    certSigners,
  });
  const lives: Compiled<LifeGrant>[] = settings.rules.map((rule) => ({
    matches: compilePattern(rule.match),
    grants: life(rule.tier ?? defaults.tier, rule.backend ?? defaults.backend, rule.certSigners),
  }));
  const keys: Compiled<KeyGrant>[] = settings.keyModes.map((rule) => ({
    matches: compilePattern(rule.match),
    grants: {
      keyMode: rule.mode,
      keyDirectories: rule.keyDirectories ?? defaults.keyDirectories,
      keyMaxAgeMs: rule.keyMaxAgeMs ?? defaults.keyMaxAgeMs,
    },
  }));
  const downstreams: Compiled<DownstreamGrant>[] = (settings.downstream ?? []).map(({ match, maxTtlMs, backend }) => ({
    matches: compilePattern(match),
    grants: { maxTtlMs, authority: backend ?? defaults.backend },
  }));
  const defaultLife = life(defaults.tier, defaults.backend);
  const defaultKey: KeyGrant = { keyMode: defaults.keyMode, keyDirectories: defaults.keyDirectories, keyMaxAgeMs: defaults.keyMaxAgeMs };

  function pathOfGranted({ spiffeId }: PolicySubject): string {
    const path = pathOf(spiffeId);
    if (trustDomainOf(spiffeId) !== context.trustDomain || isReservedPath(path)) {
      throw new SignetError('PERMISSION_DENIED', 'policy grants this identity nothing');
    }
    if (context.denied(spiffeId)) throw new SignetError('IDENTITY_DENIED', 'this identity has been stopped by an operator');
    return path;
  }

  return {
    grant(subject) {
      const path = pathOfGranted(subject);
      return { ...firstMatch(lives, path, defaultLife), ...firstMatch(keys, path, defaultKey) };
    },
    check(subject) {
      pathOfGranted(subject);
    },
    downstream(subject) {
      const grant = firstMatch(downstreams, pathOfGranted(subject), undefined);
      if (grant) return grant;
      throw new SignetError('PERMISSION_DENIED', 'policy lets this identity have no CA of its own: no rule of policy.downstream names it');
    },
  };
}

function firstMatch<T, Otherwise>(rules: readonly Compiled<T>[], path: string, otherwise: Otherwise): T | Otherwise {
  for (const rule of rules) if (rule.matches(path)) return rule.grants;
  return otherwise;
}
