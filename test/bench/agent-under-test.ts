import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Fixtures } from './fixtures.ts';
import type { ServerUnderTest } from './server-under-test.ts';

export interface AgentUnderTest {
  readonly pid: number;
  /** `performance.now()` of its exec. */
  readonly startedAt: number;
  /** From exec to the ready line, in ms. */
  readonly readyMs: number;
  /** One a workload, as gRPC addresses. */
  readonly sockets: readonly string[];
  /** The text of its metrics. */
  metrics(): Promise<string>;
  stop(): Promise<void>;
}

export interface AgentOptions {
  readonly folder: string;
  readonly server: ServerUnderTest;
  /** As many tokens as workloads at least. */
  readonly fixtures: Fixtures;
  readonly workloads: number;
}

/** The agent as an operator would run it, without a cache. */
export async function startAgentUnderTest({ folder, server, fixtures, workloads: count }: AgentOptions): Promise<AgentUnderTest> {
  const base = join(folder, 'agent');
  mkdirSync(base, { recursive: true, mode: 0o700 });
  const tokens = readFileSync(fixtures.tokensFile, 'utf8').split('\n');
  const workloads = Array.from({ length: count }, (_, i) => {
    const name = `w${String(i)}`;
    const tokenFile = join(base, `${name}.token`);
    writeFileSync(tokenFile, tokens[i] ?? '', { mode: 0o600 });
    return { name, tokenFile, socket: join(base, name, 's') };
  });
  const configFile = join(base, 'agent.yaml');
  const config = {
    trustDomain: 'cluster.local',
    servers: [server.grpc],
    serverTrust: { caFile: server.caFile },
    workloads,
    listen: { http: '127.0.0.1:0' },
    log: { level: 'error' },
  };
  // JSON is YAML.
  writeFileSync(configFile, JSON.stringify(config));
  const startedAt = performance.now();
  const child = spawn(process.execPath, ['bin/signet.js', 'agent', '--config', configFile], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  const gone = new AbortController();
  child.once('exit', (code) => {
    gone.abort(new Error(`the agent ended with ${String(code)} before it was ready`));
  });
  const signal = AbortSignal.any([gone.signal, AbortSignal.timeout(60_000)]);
  const [line] = (await once(createInterface({ input: child.stdout }), 'line', { signal })) as [string];
  const readyMs = performance.now() - startedAt;
  const found = /^ready pid=(\d+) sockets=\S+ http=(\S+)$/.exec(line);
  if (!found) throw new Error(`not a ready line: ${line.slice(0, 200)}`);
  const page = `http://${found[2] ?? ''}/metrics`;
  return {
    pid: Number(found[1]),
    startedAt,
    readyMs,
    sockets: workloads.map(({ socket }) => `unix:${socket}`),
    metrics: async () => (await fetch(page, { signal: AbortSignal.timeout(10_000) })).text(),
    async stop() {
      child.kill('SIGTERM');
      await exited;
    },
  };
}
