import { SignetError } from '../base/errors.ts';
import { authenticationFailed, shown } from './authentication-failure.ts';
import type { JsonObject } from './json-pointer.ts';
import { compilePointer } from './json-pointer.ts';

/**
 * Instances are written `pod:<uid>`, `claim:<value>` or `hint:<what the client said>`: a client can never name itself
 * as the instance that an issuer vouches for, and the name is safe in logs and keys.
 */
const instanceCharacters = /^[A-Za-z0-9._-]{1,64}$/;
const kubernetesPodUid = '/kubernetes.io/pod/uid';

/** The instance in the claims, undefined where the token names none. Throws UNAUTHENTICATED on an odd value. */
export function compileInstance(pointer: string | undefined): (claims: JsonObject) => string | undefined {
  if (pointer === undefined) return () => undefined;
  const read = compilePointer(pointer);
  const prefix = pointer === kubernetesPodUid ? 'pod' : 'claim';
  return (claims) => {
    const value = read(claims);
    if (value === undefined) return undefined;
    if (typeof value === 'string' && instanceCharacters.test(value)) return `${prefix}:${value}`;
    throw authenticationFailed('claim', `${pointer} is ${shown(value)}, which is no instance name`);
  };
}

/** `x-signet-instance`, which has no authority: it tells bearers of one identity apart, no more. Throws INVALID_ARGUMENT. */
export function instanceFromHint(hint: string | undefined): string | undefined {
  if (hint === undefined) return undefined;
  if (instanceCharacters.test(hint)) return `hint:${hint}`;
  throw new SignetError('INVALID_ARGUMENT', 'x-signet-instance takes 1 to 64 of A-Z, a-z, 0-9, ".", "_" and "-"');
}
