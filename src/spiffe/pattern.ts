import { SignetError } from '../base/errors.ts';

/**
 * Patterns over SPIFFE paths, as the configuration writes them: `*` stands for any characters (also none) but "/",
 * `**` for any at all, everything else for itself. A lone `*` means every path, as people write it.
 */
export type PathMatcher = (path: string) => boolean;

const longestPattern = 512;
const patternCharacters = /^[a-zA-Z0-9._*/-]+$/;

/** What is wrong with a pattern, in words for the operator; undefined if nothing is. */
export function patternProblem(text: string): string | undefined {
  if (text.length > longestPattern) return `a pattern has at most ${longestPattern} characters`;
  if (text === '*' || text === '**') return undefined;
  if (!patternCharacters.test(text))
    return 'a pattern is made of the characters of SPIFFE paths (a-z, A-Z, 0-9, ".", "_", "-", "/"), "*" and "**"';
  if (!text.startsWith('/') && !text.startsWith('**'))
    return 'a pattern starts with "/" (it is matched against the path, such as /ns/shop/sa/web) or with "**"';
  if (text.includes('***')) return '"***" means nothing: write "*" for one segment or "**" for several';
  if (text.includes('//')) return 'a path has no empty segment, so a pattern with "//" matches nothing';
  if (text.endsWith('/')) return 'a path does not end with "/", so this pattern matches nothing';
  return undefined;
}

/** Throws INVALID_ARGUMENT, saying what is wrong. The matcher allocates nothing. */
export function compilePattern(text: string): PathMatcher {
  const problem = patternProblem(text);
  if (problem !== undefined) throw new SignetError('INVALID_ARGUMENT', `pattern "${text.slice(0, 80)}": ${problem}`);
  if (text === '*' || text === '**') return () => true;
  const wildcard = text.indexOf('*');
  if (wildcard === -1) return (path) => path === text;
  if (wildcard === text.length - 2 && text.endsWith('**')) {
    const prefix = text.slice(0, -2);
    return (path) => path.startsWith(prefix);
  }
  return (path) => matches(text, path);
}

const star = 0x2a;
const slash = 0x2f;

/**
 * Two-level backtracking instead of a regular expression, whose time may explode on several "**". A failed match first
 * lets the last `*` take one character more, then the last `**`. No earlier wildcard need be tried again: what lies
 * between two `**` has a fixed number of slashes, so that its leftmost match also ends leftmost.
 */
function matches(pattern: string, path: string): boolean {
  let p = 0;
  let t = 0;
  let oneAt = -1;
  let oneFrom = 0;
  let anyAt = -1;
  let anyFrom = 0;
  for (;;) {
    if (p < pattern.length && pattern.charCodeAt(p) === star) {
      if (pattern.charCodeAt(p + 1) === star) {
        p += 2;
        anyAt = p;
        anyFrom = t;
        oneAt = -1;
      } else {
        p += 1;
        oneAt = p;
        oneFrom = t;
      }
      continue;
    }
    if (t < path.length ? p < pattern.length && pattern.charCodeAt(p) === path.charCodeAt(t) : p === pattern.length) {
      if (t === path.length) return true;
      p += 1;
      t += 1;
      continue;
    }
    if (oneAt !== -1 && oneFrom < path.length && path.charCodeAt(oneFrom) !== slash) {
      oneFrom += 1;
      p = oneAt;
      t = oneFrom;
    } else if (anyAt !== -1 && anyFrom < path.length) {
      anyFrom += 1;
      p = anyAt;
      t = anyFrom;
      oneAt = -1;
    } else {
      return false;
    }
  }
}
