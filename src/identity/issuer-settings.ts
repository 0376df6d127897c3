import { patternProblem } from '../spiffe/pattern.ts';
import { isReservedPath } from '../spiffe/reserved-path.ts';
import { pointerProblem } from './json-pointer.ts';
import type { JwsAlgorithm } from './jws-algorithm.ts';
import { isJwsAlgorithm, jwsAlgorithms } from './jws-algorithm.ts';
import type { KeyLocation } from './key-location.ts';
import { keyLocationProblem } from './key-location.ts';
import { compileTemplate, templateProblem } from './path-template.ts';

interface AnyIssuer {
  /** Our name for it; several issuers may share an `iss`. */
  readonly id: string;
  /** The `iss` claim, exactly. */
  readonly issuer: string;
  /** What Istio's clients call its cluster (`clusterid`). Once any issuer has one, no other name is accepted. */
  readonly cluster?: string | undefined;
  /** What this issuer's tokens may be meant for; an API takes those that are also its own. */
  readonly audiences: readonly string[];
  readonly algorithms: readonly JwsAlgorithm[];
  /** `/ns/{/kubernetes.io/namespace}/...`: see path-template.ts. */
  readonly path: string;
  /** A JSON pointer to the claim that tells the bearers of one identity apart. */
  readonly instance?: string | undefined;
  /** Patterns over the SPIFFE path; none allows nothing. */
  readonly allow: readonly string[];
  readonly deny: readonly string[];
}

/** Its tokens are verified here, by the keys that it publishes. */
export interface KeyIssuerSettings extends AnyIssuer {
  readonly keys: KeyLocation;
  /** PEM of the CAs that the source of keys is trusted by, instead of the system's. Read again at each request. */
  readonly caFile?: string | undefined;
  /** A bearer token for the source of keys, read again at each request: a Kubernetes API server shows its keys to nobody else. */
  readonly tokenFile?: string | undefined;
}

/** Its tokens are verified by the API server of its cluster. */
export interface ReviewedIssuerSettings extends AnyIssuer {
  readonly review: {
    /** How long a yes is good, at most. */
    readonly cacheForMs: number;
  };
}

export type IssuerSettings = KeyIssuerSettings | ReviewedIssuerSettings;

export function isReviewed(issuer: IssuerSettings): issuer is ReviewedIssuerSettings {
  return 'review' in issuer;
}

export interface IssuerProblem {
  /** The issuer's id. */
  readonly issuer: string;
  readonly field: keyof KeyIssuerSettings | keyof ReviewedIssuerSettings;
  readonly message: string;
}

/** Of projected service-account tokens, in Istio's and SPIRE's customary path. */
export function kubernetesIssuerDefaults(): { path: string; instance: string } {
  return { path: '/ns/{/kubernetes.io/namespace}/sa/{/kubernetes.io/serviceaccount/name}', instance: '/kubernetes.io/pod/uid' };
}

/**
 * Whether one issuer could name what the other owns, in words; undefined if not. Each owns its template's plain segments
 * before the first claim, with everything below: no one else's claims may reach there.
 */
export function issuerOverlap(a: Pick<IssuerSettings, 'id' | 'path'>, b: Pick<IssuerSettings, 'id' | 'path'>): string | undefined {
  if (templateProblem(a.path) !== undefined || templateProblem(b.path) !== undefined) return undefined;
  const [one, other] = [compileTemplate(a.path).prefix, compileTemplate(b.path).prefix];
  const shared = Math.min(one.length, other.length);
  for (let i = 0; i < shared; i++) if (one[i] !== other[i]) return undefined;
  const common = one.length <= other.length ? one : other;
  return `both can name identities under ${common.length === 0 ? '/' : `/${common.join('/')}/`}; give each issuer plain first segments of its own, such as /${b.id}${b.path}`;
}

const longestText = 512;
const idCharacters = /^[A-Za-z0-9._-]{1,64}$/;
const longestReviewCacheMs = 300_000;

/** What a cluster may be called; undefined if this may be one. */
export function clusterProblem(name: string): string | undefined {
  return /^[A-Za-z0-9._-]{1,253}$/.test(name) ? undefined : 'a cluster\'s name has 1 to 253 of A-Z, a-z, 0-9, ".", "_" and "-"';
}

/** Everything wrong with the issuers that shows without asking them for keys. */
export function checkIssuerSettings(settings: readonly IssuerSettings[]): IssuerProblem[] {
  const problems: IssuerProblem[] = [];
  settings.forEach((issuer, i) => {
    const report = (field: IssuerProblem['field'], message: string | undefined): void => {
      if (message !== undefined) problems.push({ issuer: issuer.id, field, message });
    };
    if (!idCharacters.test(issuer.id)) report('id', 'an id has 1 to 64 of A-Z, a-z, 0-9, ".", "_" and "-"');
    if (issuer.issuer === '' || issuer.issuer.length > longestText) report('issuer', 'write the tokens\' "iss" claim, exactly');
    if (issuer.audiences.length === 0 || issuer.audiences.includes(''))
      report('audiences', 'name at least one audience: a token for others must not be one for us');
    if (issuer.algorithms.length === 0) report('algorithms', `name at least one of ${jwsAlgorithms.join(', ')}`);
    for (const algorithm of issuer.algorithms) {
      if (!isJwsAlgorithm(algorithm)) report('algorithms', `"${String(algorithm)}" is none of ${jwsAlgorithms.join(', ')}`);
    }
    if (!isReviewed(issuer)) report('keys', keyLocationProblem(issuer.keys));
    else if (!(issuer.review.cacheForMs > 0 && issuer.review.cacheForMs <= longestReviewCacheMs))
      report('review', 'a review is good for five minutes at most');
    if (issuer.cluster !== undefined) report('cluster', clusterProblem(issuer.cluster));
    report('path', templateProblem(issuer.path) ?? reservedProblem(issuer.path));
    if (issuer.instance !== undefined) report('instance', pointerProblem(issuer.instance));
    if (issuer.allow.length === 0) report('allow', 'without a pattern no identity is allowed; "*" allows each that the path can name');
    for (const pattern of issuer.allow) report('allow', patternProblem(pattern));
    for (const pattern of issuer.deny) report('deny', patternProblem(pattern));
    for (const earlier of settings.slice(0, i)) {
      if (earlier.id === issuer.id) report('id', 'another issuer has this id');
      const overlap = issuerOverlap(earlier, issuer);
      if (overlap !== undefined) report('path', `overlaps issuer "${earlier.id}": ${overlap}`);
      if (earlier.issuer === issuer.issuer) report(...sameName(earlier, issuer));
    }
  });
  return problems;
}

/** Two issuers of one `iss` need something else that tells their tokens apart: keys, or the cluster that clients name. */
function sameName(earlier: IssuerSettings, issuer: IssuerSettings): [field: IssuerProblem['field'], problem: string | undefined] {
  if (isReviewed(earlier) || isReviewed(issuer)) {
    const apart = earlier.cluster !== undefined && issuer.cluster !== undefined && earlier.cluster !== issuer.cluster;
    const advice = 'give each the name of its cluster, which its clients then send as "clusterid"';
    return [
      'cluster',
      apart ? undefined : `issuer "${earlier.id}" has the same "iss", and a token of one is not shown to the other: ${advice}`,
    ];
  }
  const same = JSON.stringify(earlier.keys) === JSON.stringify(issuer.keys);
  const problem = `issuer "${earlier.id}" has the same "iss" and the same keys: no token could be told to be of one of them`;
  return ['keys', same ? problem : undefined];
}

function reservedProblem(path: string): string | undefined {
  const [first] = compileTemplate(path).prefix;
  return first !== undefined && isReservedPath(`/${first}`) ? "names under /signet/ are the control plane's own" : undefined;
}
