import { SignetError } from '../base/errors.ts';
import { failureReason } from '../identity/authentication-failure.ts';
import type { Authenticator } from '../identity/authenticator.ts';
import type { Issuer } from '../issuance/issuer.ts';
import type { Deliveries } from '../ledger/delivery.ts';
import type { Metrics } from '../observe/metrics.ts';

/** The same part, counted. Counting stays out of the parts themselves: none of them knows of metrics. */
export function observedAuthenticator(authenticator: Authenticator, metrics: Metrics): Authenticator {
  return {
    ...authenticator,
    async authenticate(credentials, signal) {
      try {
        const caller = await authenticator.authenticate(credentials, signal);
        metrics.authenticated(caller.authenticatedBy);
        return caller;
      } catch (error) {
        metrics.authenticationFailed(failureReason(error) ?? SignetError.from(error).code);
        throw error;
      }
    },
  };
}

export function observedIssuer(issuer: Issuer, metrics: Metrics): Issuer {
  return {
    ...issuer,
    async issue(request, signal) {
      const startedAt = performance.now();
      try {
        const issued = await issuer.issue(request, signal);
        metrics.issued(issued.record.authority, request.mode, (performance.now() - startedAt) / 1000);
        return issued;
      } catch (error) {
        metrics.issuanceFailed(SignetError.from(error).code);
        throw error;
      }
    },
  };
}

export function observedDeliveries(deliveries: Deliveries, metrics: Metrics): Deliveries {
  return {
    ...deliveries,
    sent(stream, secret) {
      metrics.sent(secret.type);
      deliveries.sent(stream, secret);
    },
    acknowledged(stream, secret) {
      metrics.acknowledged(secret.type);
      deliveries.acknowledged(stream, secret);
    },
    rejected(stream, secret, nack) {
      metrics.rejected(nack.class);
      deliveries.rejected(stream, secret, nack);
    },
  };
}
