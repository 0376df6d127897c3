import { SignetError } from '../base/errors.ts';
import type { Authenticator, Credentials } from '../identity/authenticator.ts';
import type { Caller } from '../identity/caller.ts';
import type { Policy } from '../policy/policy.ts';
import type { Admission, Shown } from '../sds/secret-source.ts';
import type { Denials } from './denials.ts';

export interface AdmissionParts {
  readonly authenticator: Authenticator;
  readonly policy: Policy;
  readonly denials: Pick<Denials, 'onChange'>;
  /** Roots come and go: those who came by a certificate are judged by them again. */
  readonly onTrustChange: (listener: () => void) => () => void;
  /** Metadata and the verified TLS peer to credentials; undefined token where none was shown. */
  readonly credentials: (call: Shown) => Credentials;
}

/** Who may open and keep an SDS stream: proved, still proved, and still allowed. */
export function createAdmission({ authenticator, policy, denials, onTrustChange, credentials }: AdmissionParts): Admission {
  function admitted(caller: Caller): Caller {
    policy.check(caller);
    return caller;
  }

  return {
    authenticate(call, signal) {
      const caller = authenticator.authenticate(credentials(call), signal);
      return caller instanceof Promise ? caller.then(admitted) : admitted(caller);
    },
    refusal(caller) {
      try {
        policy.check(caller);
      } catch (error) {
        return SignetError.from(error);
      }
      return authenticator.stillProved(caller) ? undefined : new SignetError('UNAUTHENTICATED', 'the credential has ended');
    },
    onChange(listener) {
      const stops = [
        authenticator.onChange(() => {
          listener(() => true);
        }),
        denials.onChange((id) => {
          listener((caller) => caller.spiffeId === id);
        }),
        onTrustChange(() => {
          listener((caller) => caller.authenticatedBy !== 'token');
        }),
      ];
      return () => {
        for (const stop of stops) stop();
      };
    },
  };
}
