import { SignetError } from '../base/errors.ts';

const longestDirectory = 200;
const directoryCharacters = /^[A-Za-z0-9._/-]+$/;

/** What is wrong with a key directory's form, undefined if nothing is. Also asked of the prefixes in the configuration. */
export function keyDirectoryProblem(directory: string): string | undefined {
  // All characters allowed below are one byte, so that length in characters is length in bytes.
  if (directory.length > longestDirectory) return `a key directory has at most ${longestDirectory} bytes`;
  if (!directory.startsWith('/')) return 'a key directory is an absolute path';
  if (!directoryCharacters.test(directory)) return 'a key directory has only the characters A-Z, a-z, 0-9, ".", "_", "-" and "/"';
  const segments = directory.slice(1).split('/');
  if (segments.includes('')) return 'a key directory has no empty segment and no slash at its end';
  if (segments.includes('.') || segments.includes('..')) return 'a key directory has no "." or ".." segment';
  return undefined;
}

/**
 * The directory of a bound key, on Envoy's host: it goes into `private_key.filename`, so a caller must not be able to
 * name any file that the operator didn't allow. Refused, never normalised. Throws INVALID_ARGUMENT.
 */
export function checkKeyDirectory(directory: string, allowed: readonly string[]): string {
  const problem = keyDirectoryProblem(directory);
  if (problem !== undefined) throw new SignetError('INVALID_ARGUMENT', problem);
  if (allowed.length === 0)
    throw new SignetError('INVALID_ARGUMENT', 'no key directory is allowed for this identity; set policy.keyModes[].keyDirectories');
  if (!allowed.some((prefix) => directory === prefix || directory.startsWith(`${prefix}/`))) {
    throw new SignetError('INVALID_ARGUMENT', `the key directory is under none of those allowed for this identity: ${allowed.join(', ')}`);
  }
  return directory;
}
