import { SignetError } from '../base/errors.ts';

export type JsonObject = Readonly<Record<string, unknown>>;

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const longestPointer = 256;

/** What is wrong with a JSON pointer (RFC 6901) into a token's claims; undefined if nothing is. */
export function pointerProblem(text: string): string | undefined {
  if (text.length > longestPointer) return `a JSON pointer has at most ${longestPointer} characters`;
  if (!text.startsWith('/') || text === '/')
    return 'a JSON pointer starts with "/" and names a claim, such as /sub or /kubernetes.io/namespace';
  if (/~(?![01])/.test(text)) return 'in a JSON pointer "~" is written ~0 and "/" is written ~1';
  return undefined;
}

/** Reads what the pointer names: own members of objects alone, no array elements. Throws INVALID_ARGUMENT on a bad pointer. */
export function compilePointer(text: string): (claims: JsonObject) => unknown {
  const problem = pointerProblem(text);
  if (problem !== undefined) throw new SignetError('INVALID_ARGUMENT', `"${text.slice(0, 80)}": ${problem}`);
  // RFC 6901 §4: ~1 first, or "~01" would become "/".
  const names = text
    .slice(1)
    .split('/')
    .map((name) => name.replaceAll('~1', '/').replaceAll('~0', '~'));
  return (claims) => {
    let value: unknown = claims;
    for (const name of names) {
      if (!isJsonObject(value) || !Object.hasOwn(value, name)) return undefined;
      value = value[name];
    }
    return value;
  };
}
