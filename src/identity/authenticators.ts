import type { Authenticator } from './authenticator.ts';
import { authenticationFailed } from './authentication-failure.ts';

/**
 * A call with a token is judged by the token alone, even if it also shows a certificate: a bad token must not pass
 * because of the connection that it came by.
 */
export function combineAuthenticators(token: Authenticator, certificate: Authenticator): Authenticator {
  return {
    authenticate(credentials, signal) {
      if (credentials.token !== undefined) return token.authenticate(credentials, signal);
      if (credentials.peerChain.length > 0) return certificate.authenticate(credentials, signal);
      throw authenticationFailed('no-credential', 'neither a token nor a verified client certificate was shown');
    },
    stillProved: (caller) => (caller.authenticatedBy === 'token' ? token : certificate).stillProved(caller),
    onChange(listener) {
      const stops = [token.onChange(listener), certificate.onChange(listener)];
      return () => {
        for (const stop of stops) stop();
      };
    },
  };
}
