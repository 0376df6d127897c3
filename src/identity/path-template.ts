import { SignetError } from '../base/errors.ts';
import { isPathSegment } from '../spiffe/id.ts';
import { authenticationFailed, shown } from './authentication-failure.ts';
import type { JsonObject } from './json-pointer.ts';
import { compilePointer, pointerProblem } from './json-pointer.ts';

/**
 * How claims become a SPIFFE path: `/ns/{/kubernetes.io/namespace}/sa/{/kubernetes.io/serviceaccount/name}`.
 * `{pointer}` fills exactly one segment, `{*pointer}` one or more; a claim is refused, never cleaned, if it doesn't fit,
 * because two subjects must not fold into one identity.
 */
export interface PathTemplate {
  /** The literal segments before the first claim: what this issuer owns. */
  readonly prefix: readonly string[];
  /** The path with its leading slash. Throws UNAUTHENTICATED (reason `claim`). */
  fill(claims: JsonObject): string;
  /**
   * The way back: each pointer's segment in a path that this template made. Undefined for other paths, and for a template
   * whose segments can't be told apart.
   */
  read(path: string): ReadonlyMap<string, string> | undefined;
}

type Part = { readonly literal: string } | { readonly pointer: string; readonly several: boolean };

const longestTemplate = 1024;
const longestPath = 1024;

/** Splits at slashes outside of braces; a string is the problem found. */
function parseTemplate(text: string): readonly Part[] | string {
  if (text.length > longestTemplate) return `a path template has at most ${longestTemplate} characters`;
  if (!text.startsWith('/')) return 'a path template starts with "/"';
  const parts: Part[] = [];
  for (let rest = text; rest !== ''; ) {
    const found = /^\/(?:\{(\*?)([^{}]*)\}|([^/{}]*))(?=\/|$)/.exec(rest);
    if (!found) return 'a segment is either plain or one {pointer} alone: nothing may stand beside the braces';
    const [whole, star, pointer, literal] = found;
    if (pointer !== undefined) {
      const problem = pointerProblem(pointer);
      if (problem !== undefined) return problem;
      parts.push({ pointer, several: star === '*' });
    } else if (literal !== undefined && isPathSegment(literal)) {
      parts.push({ literal });
    } else {
      return 'a plain segment is made of a-z, A-Z, 0-9, ".", "_" and "-", and is not "." or ".."';
    }
    rest = rest.slice(whole.length);
  }
  // Were there two, ("a/x/b", "c") and ("a", "b/x/c") could fill /{*p}/x/{*q} alike.
  if (parts.filter((part) => 'several' in part && part.several).length > 1)
    return 'at most one {*pointer} can be in a template: with two, different claims could give one path';
  return parts;
}

export function templateProblem(text: string): string | undefined {
  const parts = parseTemplate(text);
  return typeof parts === 'string' ? parts : undefined;
}

/** Throws INVALID_ARGUMENT, saying what is wrong. */
export function compileTemplate(text: string): PathTemplate {
  const parts = parseTemplate(text);
  if (typeof parts === 'string') throw new SignetError('INVALID_ARGUMENT', `path "${text.slice(0, 80)}": ${parts}`);
  const prefix: string[] = [];
  for (const part of parts) {
    if (!('literal' in part)) break;
    prefix.push(part.literal);
  }
  const fillers = parts.map((part) => {
    if ('literal' in part) return () => `/${part.literal}`;
    const read = compilePointer(part.pointer);
    return (claims: JsonObject) => {
      const value = read(claims);
      if (typeof value !== 'string' || !(part.several ? areSegments(value) : isPathSegment(value))) {
        throw authenticationFailed(
          'claim',
          `${part.pointer} is ${shown(value)}, which is not ${part.several ? 'path segments' : 'a path segment'}`,
        );
      }
      return `/${value}`;
    };
  });
  return {
    prefix,
    fill(claims) {
      let path = '';
      for (const filler of fillers) path += filler(claims);
      if (path.length > longestPath) throw authenticationFailed('claim', `the path would have ${path.length} characters`);
      return path;
    },
    read: (path) => readBack(parts, path),
  };
}

function readBack(parts: readonly Part[], path: string): ReadonlyMap<string, string> | undefined {
  const segments = path.split('/').slice(1);
  if (!path.startsWith('/') || segments.length !== parts.length) return undefined;
  const values = new Map<string, string>();
  for (const [i, part] of parts.entries()) {
    const value = segments[i] ?? '';
    if ('literal' in part) {
      if (part.literal !== value) return undefined;
      continue;
    }
    if (part.several || !isPathSegment(value) || (values.get(part.pointer) ?? value) !== value) return undefined;
    values.set(part.pointer, value);
  }
  return values;
}

function areSegments(value: string): boolean {
  return value.length <= longestPath && value.split('/').every(isPathSegment);
}
