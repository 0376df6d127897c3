import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { loadAgentConfig } from '../../src/agent/config/load.ts';
import { startAgent } from '../../src/agent/start.ts';
import type { RunningAgent } from '../../src/agent/start.ts';
import { mergeLayers } from '../../src/config/schema-path.ts';
import { rawSdsClient } from './raw-sds-client.ts';
import type { RawSdsClient } from './raw-sds-client.ts';
import type { Pod, WholeServer } from './whole-server.ts';

/** The real agent in this process, before a real server, with the sockets that lead to it. */
export interface AgentWorld extends AsyncDisposable {
  /** Of the agent that runs now. */
  readonly agent: RunningAgent;
  /** Names of workloads are those of their service accounts. */
  socket(name: string): string;
  tokenFile(name: string): string;
  client(name: string): RawSdsClient;
  start(): Promise<void>;
  stop(): Promise<void>;
}

export interface AgentWish {
  readonly pods: readonly Pod[];
  /** Instead of the server's own address. */
  readonly servers?: readonly string[];
  /** What the servers are known by; the server's own CA unless given. */
  readonly trust?: { readonly caFile: string } | { readonly pinnedSpki: readonly string[] };
  /** Over the usual settings. */
  readonly settings?: object;
  readonly env?: NodeJS.ProcessEnv;
}

export async function agentWorld(whole: WholeServer, wish: AgentWish): Promise<AgentWorld> {
  const { folder } = whole;
  const base = folder.temp.file('a');
  await mkdir(base, { recursive: true, mode: 0o700 });
  const tokenFile = (name: string): string => join(base, `${name}.token`);
  const socket = (name: string): string => join(base, name, 's');
  for (const pod of wish.pods) await writeFile(tokenFile(pod.serviceAccount), folder.token(pod), { mode: 0o600 });
  const usual = {
    trustDomain: 'example.org',
    servers: wish.servers ?? [whole.doors.address],
    serverTrust: wish.trust ?? { caFile: join(folder.data, 'server-ca.pem') },
    workloads: wish.pods.map(({ serviceAccount: name }) => ({ name, tokenFile: tokenFile(name), socket: socket(name) })),
    log: { level: 'error' },
  };
  const file = join(base, 'agent.yaml');
  // JSON is YAML.
  await writeFile(file, JSON.stringify(mergeLayers(usual, wish.settings ?? {})));
  let running: RunningAgent | undefined;
  const clients: RawSdsClient[] = [];
  const world: AgentWorld = {
    get agent() {
      if (!running) throw new Error('the agent is stopped');
      return running;
    },
    socket,
    tokenFile,
    client(name) {
      const client = rawSdsClient(`unix:${socket(name)}`);
      clients.push(client);
      return client;
    },
    async start() {
      running = await startAgent(await loadAgentConfig({ file, env: {} }), { env: { ...wish.env } });
    },
    async stop() {
      const stopping = running;
      running = undefined;
      await stopping?.close();
    },
    async [Symbol.asyncDispose]() {
      for (const client of clients) client.close();
      await world.stop();
    },
  };
  await world.start();
  return world;
}
