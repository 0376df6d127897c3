import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { endChild, keepTrack } from './process.ts';

const bin = fileURLToPath(new URL('../../bin/signet.js', import.meta.url));
const startMs = 60_000;

export interface AgentProcessOptions {
  /** For its log, its cache and what seals it. */
  readonly folder: string;
  /** host:port */
  readonly server: string;
  readonly trustDomain: string;
  readonly serverCaFile: string;
  readonly tokenFile: string;
  readonly socket: string;
  readonly args?: readonly string[];
}

/** `signet agent` for one workload, with a sealed cache, ended with `await using`. */
export interface AgentProcess extends AsyncDisposable {
  readonly pid: number;
  readonly socket: string;
  readonly cache: string;
  log(): Promise<string>;
  kill(signal: NodeJS.Signals): Promise<void>;
  /** A new process in place of one that is gone. */
  start(): Promise<void>;
}

/** Resolves with its ready line, which says nothing of whether a server answered. */
export async function startAgentProcess(options: AgentProcessOptions): Promise<AgentProcess> {
  const { folder, socket } = options;
  const [logFile, cache, sealingKey] = [join(folder, 'agent.log'), join(folder, 'cache'), join(folder, 'sealing.key')];
  await writeFile(sealingKey, randomBytes(32).toString('base64'), { mode: 0o600 });
  const args = [
    ...['agent', '--server', options.server, '--trust-domain', options.trustDomain, '--ca', options.serverCaFile],
    ...['--token-file', options.tokenFile, '--socket', socket, '--cache', cache, '--sealing-key-file', sealingKey],
    ...(options.args ?? []),
  ];
  const log = (): Promise<string> => readFile(logFile, 'utf8').catch(() => '');

  async function launch() {
    const started = spawn(process.execPath, [bin, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    keepTrack(started);
    started.stderr.pipe(createWriteStream(logFile, { flags: 'a' }));
    await new Promise<void>((resolve, reject) => {
      let text = '';
      const timer = setTimeout(() => {
        reject(new Error('the agent printed no ready line'));
      }, startMs);
      started.once('exit', (code, signal) => {
        clearTimeout(timer);
        void log().then((said) => {
          reject(new Error(`the agent ended with ${String(code ?? signal)} before it was ready: ${said.slice(-2000)}`));
        });
      });
      started.stdout.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
        if (!/^ready pid=\d+ sockets=.+$/m.test(text)) return;
        clearTimeout(timer);
        resolve();
      });
    });
    return started;
  }

  let child = await launch();
  return {
    get pid() {
      return child.pid ?? 0;
    },
    socket,
    cache,
    log,
    kill: async (signal) => endChild(child, signal),
    async start() {
      child = await launch();
    },
    [Symbol.asyncDispose]: async () => endChild(child),
  };
}
