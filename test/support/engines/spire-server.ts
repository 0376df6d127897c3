import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { chmod, cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { eventually } from '../eventually.ts';
import { freePort } from '../ports.ts';
import { endChild, keepTrack, runProgram } from '../process.ts';
import { tempFolder } from '../temp.ts';
import { cached, runOrFail } from '../test-cache.ts';

export const spireVersion = '1.15.3';

/** The plugins that stay in. All the others bring the libraries of clouds along, of which one can't be had everywhere. */
const plugins: Readonly<Record<string, readonly string[]>> = {
  bundlepublisher: [],
  keymanager: ['disk', 'memory'],
  nodeattestor: ['jointoken'],
  notifier: [],
  upstreamauthority: ['disk'],
};
const buildMs = 1_800_000;

let binary: Promise<string> | undefined;

export function spireServerBinary(): Promise<string> {
  binary ??= build();
  return binary;
}

/** SPIRE's own server by its own pinned dependencies, from its module, with fewer plugins built in. */
async function build(): Promise<string> {
  const folder = await cached(`spire-server-${spireVersion}`, async (into) => {
    const downloaded = await runOrFail('go', ['mod', 'download', '-json', `github.com/spiffe/spire@v${spireVersion}`]);
    const { Dir: module } = z.object({ Dir: z.string() }).parse(JSON.parse(downloaded));
    const sources = join(into, 'src');
    await cp(module, sources, { recursive: true });
    await writable(sources);
    for (const [kind, kept] of Object.entries(plugins)) await keepPlugins(join(sources, 'pkg/server/catalog', `${kind}.go`), kind, kept);
    const args = ['build', '-C', sources, '-trimpath', '-ldflags=-s -w', '-o', join(into, 'spire-server'), './cmd/spire-server'];
    const built = await runProgram('go', args, { timeoutMs: buildMs });
    if (built.code !== 0) throw new Error(`go build failed: ${built.stderr.slice(-2000)}`);
    await rm(sources, { recursive: true });
  });
  return join(folder, 'spire-server');
}

/** Modules are unpacked without the right to write. */
async function writable(folder: string): Promise<void> {
  await chmod(folder, 0o755);
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }))
    await chmod(join(entry.parentPath, entry.name), entry.isDirectory() ? 0o755 : 0o644);
}

async function keepPlugins(file: string, kind: string, kept: readonly string[]): Promise<void> {
  const text = await readFile(file, 'utf8');
  const isKept = (line: string, name: string): string => (kept.includes(name) ? line : '');
  const trimmed = text
    .replaceAll(new RegExp(`\\t(?:\\w+ )?"github\\.com/spiffe/spire/pkg/server/plugin/${kind}/(\\w+)"\\n`, 'g'), isKept)
    .replaceAll(/\t\t(\w+)\.BuiltIn\(\),\n/g, isKept);
  await writeFile(file, trimmed);
}

export interface SpireServer extends AsyncDisposable {
  readonly address: string;
  /** An X.509-SVID of this path for so long, with its key and the bundle: `svid.pem`, `key.pem`, `bundle.pem` in a folder. */
  mint(path: string, ttl?: string): Promise<string>;
  stop(): Promise<void>;
  start(): Promise<void>;
  /** Another root of its own, used from now on; the old one stays in the bundle. */
  rotate(): Promise<void>;
}

/** SPIRE's server on loopback, its own root CA, with one `downstream` entry: `/signet`. */
export async function startSpireServer(trustDomain: string): Promise<SpireServer> {
  const program = await spireServerBinary();
  const folder = await tempFolder();
  const port = await freePort();
  const socket = folder.file('api.sock');
  await writeFile(
    folder.file('server.conf'),
    `server {
  bind_address = "127.0.0.1"
  bind_port = "${String(port)}"
  socket_path = "${socket}"
  trust_domain = "${trustDomain}"
  data_dir = "${folder.path}"
  log_level = "ERROR"
  ca_key_type = "ec-p256"
  ca_ttl = "720h"
  default_x509_svid_ttl = "24h"
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "${folder.file('store.sqlite3')}" } }
  KeyManager "disk" { plugin_data { keys_path = "${folder.file('keys.json')}" } }
  NodeAttestor "join_token" { plugin_data {} }
}
`,
  );
  const ask = (...args: readonly string[]): Promise<string> => runOrFail(program, [...args, '-socketPath', socket], { timeoutMs: 60_000 });
  let child: ChildProcess | undefined;
  async function start(): Promise<void> {
    const started = spawn(program, ['run', '-config', folder.file('server.conf')], { stdio: ['ignore', 'pipe', 'pipe'] });
    keepTrack(started);
    child = started;
    let said = '';
    for (const stream of [started.stdout, started.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-3000)));
    await eventually('SPIRE', async () => (await ask('healthcheck')) || undefined).catch((error: unknown) => {
      throw new Error(said, { cause: error });
    });
  }
  async function stop(): Promise<void> {
    if (child) await endChild(child);
    child = undefined;
  }

  await start();
  const node = `spiffe://${trustDomain}/node`;
  const below = `spiffe://${trustDomain}/signet`;
  await ask('entry', 'create', '-parentID', node, '-spiffeID', below, '-selector', 'unix:uid:0', '-downstream');
  let minted = 0;
  return {
    address: `127.0.0.1:${String(port)}`,
    start,
    stop,
    async mint(path, ttl = '1h') {
      const into = folder.file(`minted-${String(++minted)}`);
      await mkdir(into);
      await ask('x509', 'mint', '-spiffeID', `spiffe://${trustDomain}${path}`, '-ttl', ttl, '-write', into);
      return into;
    },
    async rotate() {
      const prepared = await ask('localauthority', 'x509', 'prepare');
      const id = /Authority ID: (\w+)/.exec(prepared)?.[1];
      if (id === undefined) throw new Error(`no authority in: ${prepared}`);
      await ask('localauthority', 'x509', 'activate', '-authorityID', id);
    },
    async [Symbol.asyncDispose]() {
      await stop();
      await folder[Symbol.asyncDispose]();
    },
  };
}
