import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';

/** What is read at the moment of a scrape. Workloads are named by the configuration: their number is its own bound. */
export interface AgentMetricSources {
  readonly streams: () => Readonly<Record<'sotw' | 'delta', number>>;
  readonly workloads: () => readonly {
    readonly name: string;
    /** Until its certificate ends; undefined without one. */
    readonly expirySeconds: number | undefined;
    /** Until the next try to renew it. */
    readonly renewalSeconds: number | undefined;
    /** Whether its stream of trust to a server stands. */
    readonly connected: boolean;
    /** Subscribers that have not taken the newest trust. */
    readonly laggards: number;
  }[];
  readonly ready: () => boolean;
}

export interface AgentMetrics {
  /** A certificate was had, so long after its key began to be made. */
  renewed(workload: string, seconds: number): void;
  renewalFailed(workload: string, reason: string): void;
  sent(type: 'identity' | 'validation'): void;
  rejected(nackClass: string): void;
  filesWritten(workload: string): void;
  filesFailed(workload: string): void;
  commandEnded(workload: string, result: 'ok' | 'failed' | 'timeout'): void;
  /** Call once. */
  watch(sources: AgentMetricSources): void;
  page(): Promise<{ readonly contentType: string; readonly text: string }>;
}

/** Fine where a server that is near and not busy answers. */
const renewalBuckets = [
  ...[0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.0125, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05],
  ...[0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10],
];

export function createAgentMetrics(version: string): AgentMetrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[]): Counter<L> =>
    new Counter({ name, help, labelNames, registers });
  const renewals = counter('signet_agent_renewals_total', 'Certificates that were had for a workload.', ['workload']);
  const failures = counter('signet_agent_renewal_failures_total', 'Tries that gave none, by our error code.', ['workload', 'reason']);
  const sent = counter('signet_secrets_sent_total', 'Secrets sent on SDS streams, by type.', ['type']);
  const nacks = counter('signet_secret_nacks_total', 'Secrets that Envoy refused, by class.', ['class']);
  const filesWritten = counter('signet_agent_files_written_total', "Times that a workload's files were replaced.", ['workload']);
  const filesFailed = counter('signet_agent_files_failures_total', 'Tries to replace them that failed.', ['workload']);
  const commands = counter('signet_agent_commands_total', 'Commands run after that, by result: ok, failed or timeout.', [
    'workload',
    'result',
  ]);
  const duration = new Histogram({
    name: 'signet_agent_renewal_duration_seconds',
    help: 'From the making of a key to its verified certificate, where there was one.',
    buckets: renewalBuckets,
    registers,
  });
  new Gauge({ name: 'signet_build_info', help: 'Always 1; the version is in its label.', labelNames: ['version'], registers }).set(
    { version },
    1,
  );

  return {
    renewed: (workload, seconds) => {
      renewals.inc({ workload });
      duration.observe(seconds);
    },
    renewalFailed: (workload, reason) => {
      failures.inc({ workload, reason });
    },
    sent: (type) => {
      sent.inc({ type });
    },
    rejected: (nackClass) => {
      nacks.inc({ class: nackClass });
    },
    filesWritten: (workload) => {
      filesWritten.inc({ workload });
    },
    filesFailed: (workload) => {
      filesFailed.inc({ workload });
    },
    commandEnded: (workload, result) => {
      commands.inc({ workload, result });
    },
    watch(sources) {
      const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[], read: (into: Gauge<L>) => void): void => {
        new Gauge<L>({
          name,
          help,
          labelNames,
          registers,
          collect() {
            this.reset();
            read(this);
          },
        });
      };
      gauge('signet_streams', 'Open SDS streams on the sockets, by API.', ['api'], (into) => {
        for (const [api, count] of Object.entries(sources.streams())) into.set({ api }, count);
      });
      gauge(
        'signet_agent_certificate_expiry_seconds',
        "Until the workload's certificate ends; absent without one.",
        ['workload'],
        (into) => {
          for (const { name, expirySeconds } of sources.workloads())
            if (expirySeconds !== undefined) into.set({ workload: name }, expirySeconds);
        },
      );
      gauge('signet_agent_renewal_seconds', 'Until the next try to have another one.', ['workload'], (into) => {
        for (const { name, renewalSeconds } of sources.workloads())
          if (renewalSeconds !== undefined) into.set({ workload: name }, renewalSeconds);
      });
      gauge('signet_agent_trust_connected', "1 while the workload's stream of trust to a server stands.", ['workload'], (into) => {
        for (const { name, connected } of sources.workloads()) into.set({ workload: name }, connected ? 1 : 0);
      });
      gauge('signet_agent_trust_laggards', 'Subscribers that have not taken the newest trust.', ['workload'], (into) => {
        for (const { name, laggards } of sources.workloads()) into.set({ workload: name }, laggards);
      });
      gauge('signet_ready', '1 if every workload has a certificate in force.', [], (into) => {
        into.set(sources.ready() ? 1 : 0);
      });
    },
    page: async () => ({ contentType: registry.contentType, text: await registry.metrics() }),
  };
}
