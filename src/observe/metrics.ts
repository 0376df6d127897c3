import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';

/** What is read at the moment of a scrape. */
export interface MetricSources {
  /** Open SDS streams by API. */
  readonly streams: () => Readonly<Record<'sotw' | 'delta', number>>;
  /** Seconds until the first of the certificates held for open streams ends; undefined if there is none. */
  readonly earliestExpirySeconds: () => number | undefined;
  /** Certificates held for open streams that should have been renewed a while ago. */
  readonly overdueRenewals: () => number;
  /** Of each CA backend that signs elsewhere. */
  readonly circuits: () => readonly { readonly authority: string; readonly state: 'closed' | 'open' | 'half-open' }[];
  /** Requests for a certificate that wait for their turn. */
  readonly waiting: () => number;
  readonly trustGeneration: () => number;
  readonly ready: () => boolean;
  /** Seconds since each JWT signing key was published; the prepared one is there for half of the time. */
  readonly jwtKeyAges: () => { readonly active: number; readonly prepared: number | undefined };
}

/** Every label has a small, fixed set of values: none is an identity or anything else that a client makes up. */
export interface Metrics {
  issued(authority: string, mode: string, seconds: number): void;
  issuanceFailed(reason: string): void;
  jwtSvidIssued(): void;
  /** Before the CA: over a rate, or more than may wait. */
  turnedAway(reason: string): void;
  /** A certificate replaced another one on its streams. */
  rotated(mode: string): void;
  authenticated(by: 'token' | 'certificate' | 'external-certificate'): void;
  authenticationFailed(reason: string): void;
  sent(type: 'identity' | 'validation'): void;
  acknowledged(type: 'identity' | 'validation'): void;
  rejected(nackClass: string): void;
  /** The trust bundle was written into a cluster, or could not be. */
  bundlePublication(kind: string, outcome: string): void;
  /** Whether this server is the one that publishes. */
  publishing(leads: boolean): void;
  requestDone(outcome: { readonly method: string; readonly code: string; readonly seconds: number }): void;
  /** The configuration was taken up at this time (ms), or refused. */
  configReloaded(successful: boolean, at: number): void;
  /** Call once. */
  watch(sources: MetricSources): void;
  page(): Promise<{ readonly contentType: string; readonly text: string }>;
}

const signingBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** A registry of its own, so that several servers fit into one process. prom-client is known here alone. */
export function createMetrics(version: string): Metrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });

  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[]): Counter<L> =>
    new Counter({ name, help, labelNames, registers });
  const issued = counter('signet_certificates_issued_total', 'Certificates issued, by CA backend and key mode.', ['authority', 'mode']);
  const failures = counter('signet_issuance_failures_total', 'Certificates that could not be issued, by our error code.', ['reason']);
  const jwtSvids = counter('signet_jwt_svids_issued_total', 'JWT-SVIDs issued.', []);
  const turnedAway = counter(
    'signet_issuance_turned_away_total',
    'Requests for a certificate that were over a rate limit or found no place before the CA, by reason.',
    ['reason'],
  );
  const rotations = counter('signet_rotations_total', 'Certificates that replaced another one on its streams.', ['mode']);
  const authentications = counter('signet_authentications_total', 'Callers that proved who they are, by means.', ['by']);
  const refusals = counter('signet_authentication_failures_total', 'Credentials refused, by reason.', ['reason']);
  const sent = countedByType('signet_secrets_sent_total', 'Secrets sent on SDS streams, by type.', registers);
  const acks = countedByType('signet_secret_acks_total', 'Secrets that Envoy took, by type.', registers);
  const nacks = counter('signet_secret_nacks_total', 'Secrets that Envoy refused, by class.', ['class']);
  const publications = counter(
    'signet_bundle_publications_total',
    'Copies of the trust bundle in a cluster, by kind of object and outcome.',
    ['kind', 'outcome'],
  );
  const publisher = new Gauge({
    name: 'signet_bundle_publisher',
    help: '1 if this server is the one that publishes the trust bundle into a cluster.',
    registers,
  });
  const requests = counter('signet_requests_total', 'Calls of the gRPC APIs other than SDS, by method and our error code.', [
    'method',
    'code',
  ]);
  const duration = new Histogram({
    name: 'signet_issuance_duration_seconds',
    help: 'From request to certificate on record.',
    labelNames: ['mode'],
    buckets: signingBuckets,
    registers,
  });
  const requestDuration = new Histogram({
    name: 'signet_request_duration_seconds',
    help: 'How long calls of the gRPC APIs other than SDS took.',
    labelNames: ['method'],
    buckets: signingBuckets,
    registers,
  });
  const reloadSuccessful = new Gauge({
    name: 'signet_config_last_reload_successful',
    help: 'Whether the newest attempt to load the configuration again succeeded; 1 before the first.',
    registers,
  });
  reloadSuccessful.set(1);
  const reloadedAt = new Gauge({
    name: 'signet_config_last_reload_success_timestamp_seconds',
    help: 'When the configuration in force was loaded again; absent before.',
    registers,
  });
  reloadedAt.remove();
  new Gauge({ name: 'signet_build_info', help: 'Always 1; the version is in its label.', labelNames: ['version'], registers }).set(
    { version },
    1,
  );

  return {
    issued(authority, mode, seconds) {
      issued.inc({ authority, mode });
      duration.observe({ mode }, seconds);
    },
    issuanceFailed: (reason) => {
      failures.inc({ reason });
    },
    jwtSvidIssued: () => {
      jwtSvids.inc();
    },
    turnedAway: (reason) => {
      turnedAway.inc({ reason });
    },
    rotated: (mode) => {
      rotations.inc({ mode });
    },
    authenticated: (by) => {
      authentications.inc({ by });
    },
    authenticationFailed: (reason) => {
      refusals.inc({ reason });
    },
    sent,
    acknowledged: acks,
    rejected: (nackClass) => {
      nacks.inc({ class: nackClass });
    },
    bundlePublication: (kind, outcome) => {
      publications.inc({ kind, outcome });
    },
    publishing: (leads) => {
      publisher.set(leads ? 1 : 0);
    },
    requestDone: ({ method, code, seconds }) => {
      requests.inc({ method, code });
      requestDuration.observe({ method }, seconds);
    },
    configReloaded: (successful, at) => {
      reloadSuccessful.set(successful ? 1 : 0);
      if (successful) reloadedAt.set(at / 1000);
    },
    watch(sources) {
      const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[], read: (into: Gauge<L>) => void): void => {
        new Gauge<L>({
          name,
          help,
          labelNames,
          registers,
          collect() {
            read(this);
          },
        });
      };
      gauge('signet_streams', 'Open SDS streams, by API.', ['api'], (into) => {
        for (const [api, count] of Object.entries(sources.streams())) into.set({ api }, count);
      });
      gauge(
        'signet_earliest_expiry_seconds',
        'Seconds until the first certificate held for an open stream ends; absent without one.',
        [],
        (into) => {
          const seconds = sources.earliestExpirySeconds();
          if (seconds === undefined) into.remove();
          else into.set(seconds);
        },
      );
      gauge(
        'signet_renewals_overdue',
        'Certificates held for open streams that are past 70 % of their life: renewing them has failed so far.',
        [],
        (into) => {
          into.set(sources.overdueRenewals());
        },
      );
      gauge(
        'signet_authority_circuit_state',
        '1 for the state that the circuit breaker of a CA backend is in: closed, open or half-open.',
        ['authority', 'state'],
        (into) => {
          // A reload may have taken a backend away.
          into.reset();
          for (const { authority, state: current } of sources.circuits())
            for (const state of ['closed', 'open', 'half-open']) into.set({ authority, state }, state === current ? 1 : 0);
        },
      );
      gauge('signet_issuance_waiting', 'Requests for a certificate that wait for their turn with the CA.', [], (into) => {
        into.set(sources.waiting());
      });
      gauge('signet_trust_generation', 'The generation of the trust bundle.', [], (into) => {
        into.set(sources.trustGeneration());
      });
      gauge('signet_jwt_key_age_seconds', 'How long ago a JWT signing key was published, by what it is for now.', ['state'], (into) => {
        const { active, prepared } = sources.jwtKeyAges();
        into.set({ state: 'active' }, active);
        if (prepared === undefined) into.remove({ state: 'prepared' });
        else into.set({ state: 'prepared' }, prepared);
      });
      gauge('signet_ready', '1 if the server can sign.', [], (into) => {
        into.set(sources.ready() ? 1 : 0);
      });
    },
    page: async () => ({ contentType: registry.contentType, text: await registry.metrics() }),
  };
}

/** There is one for each secret of each stream, so it is a plain number until somebody asks. */
function countedByType(name: string, help: string, registers: Registry[]): (type: 'identity' | 'validation') => void {
  const counts = { identity: 0, validation: 0 };
  new Counter({
    name,
    help,
    labelNames: ['type'],
    registers,
    collect() {
      this.reset();
      for (const type of ['identity', 'validation'] as const) this.inc({ type }, counts[type]);
    },
  });
  return (type) => {
    counts[type]++;
  };
}
