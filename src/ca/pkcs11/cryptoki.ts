import { SignetError } from '../../base/errors.ts';
import type { ErrorCode } from '../../base/errors.ts';
import type { Library } from './library.ts';
import { newLibrary } from './library.ts';

/** Numbers of PKCS#11 v2.40 (OASIS, "Current Mechanisms" and the base specification's header). */
export const ck = {
  osLockingOk: 0x02,
  rwSession: 0x02,
  serialSession: 0x04,
  userPinInitialized: 0x08,
  user: 1,
  publicKey: 2,
  privateKey: 3,
  rsa: 0,
  ec: 3,
  rsaKeyPairGen: 0x0000,
  rsaPkcs: 0x0001,
  ecKeyPairGen: 0x1040,
  ecdsa: 0x1041,
} as const;

export const cka = {
  class: 0x000,
  token: 0x001,
  private: 0x002,
  label: 0x003,
  keyType: 0x100,
  id: 0x102,
  sensitive: 0x103,
  sign: 0x108,
  verify: 0x10a,
  modulus: 0x120,
  modulusBits: 0x121,
  publicExponent: 0x122,
  extractable: 0x162,
  ecParams: 0x180,
  ecPoint: 0x181,
  alwaysAuthenticate: 0x202,
} as const;

/** Loads the library; whoever's it is. Throws AUTHORITY_MISCONFIGURED. */
export async function loadModule(file: string): Promise<Library> {
  let library: Library;
  try {
    library = await newLibrary();
  } catch (error) {
    throw new SignetError(
      'AUTHORITY_MISCONFIGURED',
      'PKCS#11 needs the package pkcs11js, which is compiled when it is installed: install Python 3, make and a C++ compiler, then run `npm install pkcs11js` where signet-sds is installed',
      { cause: error },
    );
  }
  try {
    library.load(file);
  } catch (error) {
    throw new SignetError('AUTHORITY_MISCONFIGURED', `the PKCS#11 module ${file} can't be loaded: is it there, and for this machine?`, {
      cause: error,
    });
  }
  try {
    library.C_Initialize({ flags: ck.osLockingOk });
  } catch (error) {
    throw cryptokiError(error, 'the module could not be initialized');
  }
  return library;
}

interface Verdict {
  readonly code: ErrorCode;
  readonly what: string;
}

const refusedPin = (what: string): Verdict => ({ code: 'AUTHORITY_REFUSED', what });
const wrong = (what: string): Verdict => ({ code: 'AUTHORITY_MISCONFIGURED', what });

/** What is not listed is the token's or the way to it: away, and worth another try. */
const verdicts: Readonly<Record<string, Verdict>> = {
  CKR_PIN_INCORRECT: refusedPin('the PIN is wrong'),
  CKR_PIN_INVALID: refusedPin('the PIN has a form that the token does not take'),
  CKR_PIN_LEN_RANGE: refusedPin('the PIN is too short or too long for this token'),
  CKR_PIN_EXPIRED: refusedPin('the PIN has expired: set a new one'),
  CKR_PIN_LOCKED: refusedPin('the PIN is locked: the security officer must unlock it'),
  CKR_USER_PIN_NOT_INITIALIZED: refusedPin('the token has no user PIN yet'),
  CKR_USER_TYPE_INVALID: refusedPin('the token takes no such user'),
  CKR_FUNCTION_REJECTED: refusedPin('the token refused'),
  CKR_ACTION_PROHIBITED: refusedPin("the token's policy forbids it"),
  CKR_KEY_FUNCTION_NOT_PERMITTED: wrong('the key may not sign (CKA_SIGN)'),
  CKR_KEY_TYPE_INCONSISTENT: wrong('the key is of another kind'),
  CKR_KEY_SIZE_RANGE: wrong('the token takes no key of this size'),
  CKR_MECHANISM_INVALID: wrong('the token lacks the mechanism'),
  CKR_MECHANISM_PARAM_INVALID: wrong('the token lacks the mechanism'),
  CKR_CURVE_NOT_SUPPORTED: wrong('the token lacks the curve'),
  CKR_DOMAIN_PARAMS_INVALID: wrong('the token lacks the curve'),
  CKR_TEMPLATE_INCONSISTENT: wrong('the token makes no such keys'),
  CKR_TEMPLATE_INCOMPLETE: wrong('the token makes no such keys'),
  CKR_TOKEN_WRITE_PROTECTED: wrong('the token is write-protected'),
  CKR_SESSION_READ_ONLY: wrong('the token is write-protected'),
  CKR_SLOT_ID_INVALID: wrong('there is no such slot'),
  CKR_TOKEN_NOT_RECOGNIZED: wrong('the slot holds no token that the module knows'),
};

/** Our own sessions and handles are gone, not the token: opening anew is all that it takes. */
const stale = new Set([
  'CKR_SESSION_HANDLE_INVALID',
  'CKR_SESSION_CLOSED',
  'CKR_USER_NOT_LOGGED_IN',
  'CKR_KEY_HANDLE_INVALID',
  'CKR_OBJECT_HANDLE_INVALID',
  'CKR_CRYPTOKI_NOT_INITIALIZED',
]);

/** The name of what Cryptoki returned, wherever the library put it: `CKR_PIN_INCORRECT`. */
function returnValue(error: unknown): string | undefined {
  return /CKR_[A-Z0-9_]+/.exec(error instanceof Error ? `${error.message} ${error.stack ?? ''}` : '')?.[0];
}

/** A return value of Cryptoki as our error. `doing` says what was tried; nothing of what was given to the module is told. */
export function cryptokiError(error: unknown, doing: string): SignetError {
  if (error instanceof SignetError) return error;
  const name = returnValue(error);
  const verdict = name === undefined ? undefined : verdicts[name];
  const what = verdict?.what ?? (name === undefined ? 'the module failed' : 'the token is away or failing');
  return new SignetError(verdict?.code ?? 'AUTHORITY_UNAVAILABLE', `PKCS#11: ${doing}: ${what}${name === undefined ? '' : ` (${name})`}`);
}

/** Whether the token is there, and only what we had with it is gone. */
export function isStale(error: unknown): boolean {
  return stale.has(returnValue(error) ?? '');
}
