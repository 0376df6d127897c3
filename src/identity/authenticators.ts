import type { Authenticator } from './authenticator.ts';
import { authenticationFailed } from './authentication-failure.ts';
import type { Caller } from './caller.ts';
import type { ExternalCertificateAuthenticator } from './external-certificate.ts';

export interface AuthenticatorsByProof {
  readonly token: Authenticator;
  /** Certificates that we issued. */
  readonly certificate: Authenticator;
  /** Certificates of CAs that the configuration names. */
  readonly external: ExternalCertificateAuthenticator;
}

/**
 * A call with a token is judged by the token alone, even if it also shows a certificate: a bad token must not pass
 * because of the connection that it came by. A certificate is judged by one authenticator: the external one if it is of
 * one of its CAs, whatever comes of it.
 */
export function combineAuthenticators({ token, certificate, external }: AuthenticatorsByProof): Authenticator {
  const judge = (caller: Caller): Authenticator => {
    if (caller.authenticatedBy === 'token') return token;
    return caller.authenticatedBy === 'certificate' ? certificate : external;
  };
  return {
    authenticate(credentials, signal) {
      if (credentials.token !== undefined) return token.authenticate(credentials, signal);
      const [leaf] = credentials.peerChain;
      if (!leaf) throw authenticationFailed('no-credential', 'neither a token nor a verified client certificate was shown');
      return (external.claims(leaf) ? external : certificate).authenticate(credentials, signal);
    },
    stillProved: (caller) => judge(caller).stillProved(caller),
    onChange(listener) {
      const stops = [token, certificate, external].map((one) => one.onChange(listener));
      return () => {
        for (const stop of stops) stop();
      };
    },
  };
}
