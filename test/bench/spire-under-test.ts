import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { freePort } from '../support/ports.ts';

const run = promisify(execFile);

export interface SpireUnderTest {
  readonly agentPid: number;
  readonly serverPid: number;
  /** As a gRPC address. */
  readonly socket: string;
  identity(i: number): string;
  metrics(): Promise<string>;
  /** Starts a process with the user id of that workload that takes its X.509-SVIDs from the Workload API; resolves with the first. */
  watch(i: number): Promise<{ readonly pid: number }>;
  stop(): Promise<void>;
}

export interface SpireOptions {
  /** Of spire-server and spire-agent; users other than ours have to be able to run the latter. */
  readonly binaries: string;
  readonly folder: string;
  readonly workloads: number;
  readonly svidSeconds: number;
  /** How often the agent looks for what is to be renewed; undefined for SPIRE's own 5 s. */
  readonly syncInterval?: string;
  /** All workloads are of our own user, so that one process can be each of them. */
  readonly oneUser?: boolean;
}

const firstUser = 20_000;

/**
 * SPIRE's server on SQLite and its agent, keys in memory, with an entry a workload made before. SPIRE tells workloads
 * apart by the process at the other end of its one socket, so each workload is a user of its own; that takes root.
 */
export async function startSpireUnderTest(options: SpireOptions): Promise<SpireUnderTest> {
  const { binaries, folder } = options;
  if (process.geteuid?.() !== 0) throw new Error('the comparison with SPIRE needs root: its workloads are users of their own');
  const [serverData, agentData] = [join(folder, 'server'), join(folder, 'agent')];
  for (const made of [serverData, agentData]) mkdirSync(made, { recursive: true });
  chmodSync(folder, 0o755);
  const [serverSocket, agentSocket] = [join(folder, 'server.sock'), join(folder, 'agent.sock')];
  const [port, metricsPort] = [await freePort(), await freePort()];
  const plugins = 'NodeAttestor "join_token" { plugin_data {} }\n  KeyManager "memory" { plugin_data {} }';
  const serverConfig = join(folder, 'server.conf');
  writeFileSync(
    serverConfig,
    `server {
  bind_address = "127.0.0.1"
  bind_port = "${String(port)}"
  socket_path = "${serverSocket}"
  trust_domain = "cluster.local"
  data_dir = "${serverData}"
  log_level = "ERROR"
  ca_key_type = "ec-p256"
  ca_ttl = "168h"
  default_x509_svid_ttl = "24h"
  ratelimit {
    attestation = false
    signing = false
  }
}
plugins {
  DataStore "sql" {
    plugin_data {
      database_type = "sqlite3"
      connection_string = "${join(serverData, 'store.sqlite3')}"
    }
  }
  ${plugins}
}
`,
  );
  const server = spawn(join(binaries, 'spire-server'), ['run', '-config', serverConfig], { stdio: ['ignore', 'ignore', 'inherit'] });
  const ask = async (...args: string[]): Promise<string> =>
    (await run(join(binaries, 'spire-server'), [...args, '-socketPath', serverSocket], { timeout: 60_000 })).stdout;
  await untilOk(() => ask('healthcheck'));
  const bundle = join(folder, 'bundle.pem');
  writeFileSync(bundle, await ask('bundle', 'show'));
  const parent = 'spiffe://cluster.local/node';
  const token = /Token: (\S+)/.exec(await ask('token', 'generate', '-spiffeID', parent))?.[1] ?? '';
  const identity = (i: number): string => `spiffe://cluster.local/ns/bench/sa/sa-${String(i)}`;
  const userOf = (i: number): number => (options.oneUser ? 0 : firstUser + i);
  const entries = Array.from({ length: options.workloads }, (_, i) => ({
    parent_id: parent,
    spiffe_id: identity(i),
    selectors: [{ type: 'unix', value: `uid:${String(userOf(i))}` }],
    x509_svid_ttl: options.svidSeconds,
  }));
  const entriesFile = join(folder, 'entries.json');
  writeFileSync(entriesFile, JSON.stringify({ entries }));
  await ask('entry', 'create', '-data', entriesFile);

  const agentConfig = join(folder, 'agent.conf');
  writeFileSync(
    agentConfig,
    `agent {
  server_address = "127.0.0.1"
  server_port = "${String(port)}"
  socket_path = "${agentSocket}"
  trust_domain = "cluster.local"
  trust_bundle_path = "${bundle}"
  data_dir = "${agentData}"
  log_level = "ERROR"
  join_token = "${token}"
  ${options.syncInterval === undefined ? '' : `experimental { sync_interval = "${options.syncInterval}" }`}
}
plugins {
  ${plugins}
  WorkloadAttestor "unix" { plugin_data {} }
}
telemetry {
  Prometheus {
    host = "127.0.0.1"
    port = ${String(metricsPort)}
  }
}
`,
  );
  const agent = spawn(join(binaries, 'spire-agent'), ['run', '-config', agentConfig], { stdio: ['ignore', 'ignore', 'inherit'] });
  await untilOk(() => run(join(binaries, 'spire-agent'), ['healthcheck', '-socketPath', agentSocket], { timeout: 10_000 }));
  const watchers: ReturnType<typeof spawn>[] = [];
  return {
    agentPid: agent.pid ?? 0,
    serverPid: server.pid ?? 0,
    socket: `unix:${agentSocket}`,
    identity,
    metrics: async () => (await fetch(`http://127.0.0.1:${String(metricsPort)}/metrics`, { signal: AbortSignal.timeout(10_000) })).text(),
    async watch(i) {
      const child = spawn(join(binaries, 'spire-agent'), ['api', 'watch', '-socketPath', agentSocket], {
        // Until the agent has its entry it is told that there is none, and asks again.
        stdio: ['ignore', 'pipe', 'ignore'],
        uid: userOf(i),
        cwd: '/',
      });
      watchers.push(child);
      await once(createInterface({ input: child.stdout }), 'line', { signal: AbortSignal.timeout(60_000) });
      child.stdout.resume();
      return { pid: child.pid ?? 0 };
    },
    async stop() {
      for (const child of [...watchers, agent, server]) {
        if (child.exitCode !== null || child.signalCode !== null) continue;
        const exited = once(child, 'exit');
        child.kill(child === agent || child === server ? 'SIGTERM' : 'SIGKILL');
        await exited;
      }
    },
  };
}

async function untilOk(work: () => Promise<unknown>): Promise<void> {
  const giveUpAt = performance.now() + 60_000;
  for (;;) {
    try {
      await work();
      return;
    } catch (error) {
      if (performance.now() > giveUpAt) throw error;
    }
    await pause(200);
  }
}
