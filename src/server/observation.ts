import type { CallOutcome } from '../api/call.ts';
import type { Clock } from '../base/clock.ts';
import { SignetError } from '../base/errors.ts';
import type { GuardedAuthority } from '../ca/resilience/guarded-authority.ts';
import { failureReason } from '../identity/authentication-failure.ts';
import type { Authenticator } from '../identity/authenticator.ts';
import type { Caller } from '../identity/caller.ts';
import type { CertificateEvent, InstanceView } from '../issuance/instance-entry.ts';
import type { Issuer } from '../issuance/issuer.ts';
import { isLate } from '../issuance/lateness.ts';
import type { Deliveries } from '../ledger/delivery.ts';
import type { Ledger } from '../ledger/ledger.ts';
import type { Metrics } from '../observe/metrics.ts';
import type { JwtKeyView } from '../trust/jwt-keys.ts';

/** The same parts with their outcomes counted. */
export interface Observation {
  issuing(issuer: Issuer): Issuer;
  authenticating(authenticator: Authenticator): Authenticator;
  /** The ledger, with sends counted. */
  delivering(ledger: Ledger): Deliveries;
  call(outcome: CallOutcome): void;
  jwtSvidIssued(): void;
  /** What a scrape reads; call once, when all parts are there. */
  watch(parts: {
    readonly ledger: Ledger;
    readonly certificates: {
      observe(listener: (event: CertificateEvent) => void): () => void;
      list(): readonly InstanceView[];
    };
    readonly authorities: () => Iterable<GuardedAuthority>;
    readonly waiting: () => number;
    readonly trustGeneration: () => number;
    readonly ready: () => boolean;
    readonly jwtKeys: () => JwtKeyView;
  }): void;
}

/** Every number of /metrics is taken here, around the parts, so that none of them knows of metrics. */
export function createObservation(metrics: Metrics, clock: Clock): Observation {
  return {
    issuing: (issuer) => ({
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
    }),

    authenticating: (authenticator) => {
      const counted = (caller: Caller): Caller => {
        metrics.authenticated(caller.authenticatedBy);
        return caller;
      };
      const refused = (error: unknown): never => {
        metrics.authenticationFailed(failureReason(error) ?? SignetError.from(error).code);
        throw error;
      };
      return {
        ...authenticator,
        authenticate(credentials, signal) {
          let outcome: Caller | Promise<Caller>;
          try {
            outcome = authenticator.authenticate(credentials, signal);
          } catch (error) {
            return refused(error);
          }
          return outcome instanceof Promise ? outcome.then(counted, refused) : counted(outcome);
        },
      };
    },

    delivering: (ledger) => ({
      opened: ledger.opened,
      sent(stream, secret) {
        metrics.sent(secret.type);
        ledger.sent(stream, secret);
      },
      acknowledged(stream, secret) {
        metrics.acknowledged(secret.type);
        ledger.acknowledged(stream, secret);
      },
      rejected(stream, secret, nack) {
        metrics.rejected(nack.class);
        ledger.rejected(stream, secret, nack);
      },
      closed: ledger.closed,
    }),

    call: metrics.requestDone,
    jwtSvidIssued: metrics.jwtSvidIssued,

    watch({ ledger, certificates, authorities, waiting, trustGeneration, ready, jwtKeys }) {
      const held = new Set<string>();
      certificates.observe((event) => {
        if (event.kind === 'gone') held.delete(event.name);
        if (event.kind !== 'published' || !event.fresh) return;
        if (held.has(event.name)) metrics.rotated(event.mode);
        held.add(event.name);
      });
      metrics.watch({
        streams() {
          const count = { sotw: 0, delta: 0 };
          for (const stream of ledger.streams()) count[stream.api]++;
          return count;
        },
        earliestExpirySeconds() {
          const ends = certificates
            .list()
            .flatMap(({ notAfter, subscribers }) => (notAfter !== undefined && subscribers > 0 ? [notAfter] : []));
          return ends.length === 0 ? undefined : (ends.reduce((a, b) => Math.min(a, b)) - clock.now()) / 1000;
        },
        overdueRenewals() {
          const now = clock.now();
          return certificates.list().filter(({ subscribers, renewable }) => subscribers > 0 && renewable && isLate(renewable, now)).length;
        },
        circuits: () => [...authorities()].flatMap(({ name, guard }) => (guard ? [{ authority: name, state: guard.circuit() }] : [])),
        waiting,
        trustGeneration,
        ready,
        jwtKeyAges() {
          const { publishedAt, next } = jwtKeys();
          const age = (since: number): number => Math.max(0, (clock.now() - since) / 1000);
          return { active: age(publishedAt), prepared: next && age(next.publishedAt) };
        },
      });
    },
  };
}
