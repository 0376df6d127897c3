import { SignetError } from '../base/errors.ts';
import type { Credentials } from '../identity/authenticator.ts';
import type { Shown } from '../sds/secret-source.ts';

/** Real service-account tokens are 1 to 2 KiB. */
const longestToken = 16 * 1024;
/**
 * A token (RFC 6750 §2.1), after its scheme if there is one. White space around a field's value is none of it (RFC 9110
 * §5.5), and the scheme's case doesn't matter (§11.1).
 */
const bearerValue = /^[ \t]*(?:bearer[ \t]+)?([a-z0-9._~+/-]+=*)[ \t]*$/i;

/**
 * What a call shows of itself, for identity to judge. Throws UNAUTHENTICATED if there is an `authorization` that holds no
 * bearer token: a broken token never falls back to the certificate.
 */
export function credentialsFrom(shown: Shown, audiences: readonly string[]): Credentials {
  const authorization = shown.header('authorization');
  return {
    token: authorization === undefined ? undefined : bearerToken(authorization),
    // With a token nobody looks at it.
    peerChain: authorization === undefined ? shown.peerChain() : [],
    instanceHint: shown.header('x-signet-instance'),
    cluster: shown.header('clusterid'),
    audiences,
  };
}

/** The token in an `authorization` value. The scheme may be missing: Envoy before 1.37 can inject a bare token only. */
function bearerToken(value: string): string {
  // Sized first: nothing below runs over more than that.
  if (value.length > longestToken + 'Bearer '.length) throw malformed(`authorization has ${String(value.length)} characters`);
  const token = bearerValue.exec(value)?.[1];
  if (token === undefined || /^bearer$/i.test(token)) throw malformed('authorization holds no bearer token');
  if (token.length > longestToken) throw malformed('the token is too long');
  return token;
}

function malformed(detail: string): SignetError {
  return new SignetError('UNAUTHENTICATED', 'authentication failed', { cause: new Error(`malformed: ${detail}`) });
}
