import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { startServerUnderTest } from './server-under-test.ts';

/**
 * Side by side with the peers of a harness folder: its bin/ holds gen, csrload, sdsswarm, istioca and gcpsds. Both
 * servers get the same fixtures and the same Go load client, one after the other and again, in one run.
 */
const csrShape = z.object({
  req_per_s: z.number(),
  server: z.object({ cpu_us_per_req: z.number() }),
  latency: z.object({ p50_ms: z.number(), p99_ms: z.number() }),
  other_load_cores: z.number(),
  errors: z.number(),
});

const harnessIssuer = 'http://127.0.0.1:15099';
const rounds = Number(process.env['BENCH_ROUNDS'] ?? '3');
const seconds = process.env['BENCH_SECONDS'] ?? '4';

export async function benchWithPeers(harness: string, folder: string, runs: (part: 'csr' | 'sds') => boolean): Promise<void> {
  for (const tool of ['gen', 'csrload', 'sdsswarm', 'istioca', 'gcpsds']) {
    if (!existsSync(join(harness, 'bin', tool)))
      throw new Error(`${harness}/bin/${tool} is not there: build the harness first, as its README says`);
  }
  if (runs('csr')) await csrSideBySide(harness, folder);
  if (runs('sds')) await sdsSideBySide(harness, folder);
}

async function run(harness: string, tool: string, args: readonly string[], cpus?: string): Promise<string> {
  const command = [join(harness, 'bin', tool), ...args];
  const [program = '', ...rest] = cpus === undefined ? command : ['taskset', '-c', cpus, ...command];
  const child = spawn(program, rest, { cwd: harness, stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  const [code] = (await once(child, 'close')) as [number];
  if (code !== 0) throw new Error(`${tool} ended with ${String(code)}: ${output.slice(0, 500)}`);
  return output;
}

interface Peer {
  readonly pid: number;
  stop(): Promise<void>;
}

function startPeer(harness: string, tool: string, args: readonly string[], cpus?: string): Promise<Peer> {
  return startProgram(harness, join(harness, 'bin', tool), args, cpus);
}

async function startProgram(cwd: string, path: string, args: readonly string[], cpus?: string): Promise<Peer> {
  const command = [path, ...args];
  const [program = '', ...rest] = cpus === undefined ? command : ['taskset', '-c', cpus, ...command];
  const child = spawn(program, rest, { cwd, stdio: ['ignore', 'pipe', 'inherit'] });
  for await (const line of createInterface({ input: child.stdout })) if (line.startsWith('ready')) break;
  child.stdout.resume();
  return {
    pid: child.pid ?? 0,
    async stop() {
      const exited = once(child, 'exit');
      child.kill('SIGTERM');
      await exited;
    },
  };
}

async function csrSideBySide(harness: string, folder: string): Promise<void> {
  const fixtures = join(folder, 'csr-fixtures');
  await run(harness, 'gen', ['-out', fixtures, '-tokens', '40000', '-csrs', '40000', '-ttl', '12h']);
  console.log('\nCSR to certificate, Go load client, concurrency 16, median of the rounds\n');
  console.log('| server | tokens | pinned | warm-up s | req/s | p50 ms | p99 ms | server CPU us/cert | other load, cores | errors |');
  console.log('|---|---|---|---|---|---|---|---|---|---|');
  // V8 optimizes what was called ten thousand times, all of it at once; a young process is measured apart.
  const cases = [
    { tokens: 'tokens-rs256.txt', pinned: true, warmUp: 14 },
    { tokens: 'tokens-rs256.txt', pinned: true, warmUp: 2 },
    { tokens: 'tokens-es256.txt', pinned: true, warmUp: 14 },
    { tokens: 'tokens.txt', pinned: true, warmUp: 14 },
    { tokens: 'tokens-rs256.txt', pinned: false, warmUp: 14 },
  ];
  for (const { tokens, pinned, warmUp } of cases) {
    const measured: Record<'istioca' | 'signet', z.output<typeof csrShape>[]> = { istioca: [], signet: [] };
    for (let round = 0; round < rounds; round++) {
      for (const peer of ['istioca', 'signet'] as const) {
        const own = join(folder, `csr-${peer}-${tokens}-${String(pinned)}-${String(warmUp)}-${String(round)}`);
        mkdirSync(own, { recursive: true });
        const cpus = pinned ? '0' : undefined;
        const server =
          peer === 'istioca'
            ? {
                ...(await startPeer(harness, 'istioca', fixtureFlags(fixtures), cpus)),
                address: '127.0.0.1:15012',
                ca: join(fixtures, 'tls-ca.pem'),
              }
            : await startSignet(own, join(fixtures, 'jwks.json'), cpus);
        const output = await run(
          harness,
          'csrload',
          // prettier-ignore
          [
            '-addr',
            server.address,
            '-ca',
            server.ca,
            '-tokens',
            join(fixtures, tokens),
            '-csrs',
            join(fixtures, 'csr'),
            '-c',
            '16',
            '-warmup',
            `${String(warmUp)}s`,
            '-d',
            `${seconds}s`,
            '-server-pid',
            String(server.pid),
          ],
          pinned ? '1' : undefined,
        );
        measured[peer].push(csrShape.parse(JSON.parse(output)));
        await server.stop();
        rmSync(own, { recursive: true, force: true });
      }
    }
    for (const peer of ['istioca', 'signet'] as const) {
      const rows = measured[peer];
      const middle = (pick: (row: z.output<typeof csrShape>) => number, digits: number): string => median(rows.map(pick)).toFixed(digits);
      console.log(
        `| ${peer} | ${tokens} | ${pinned ? 'yes' : 'no'} | ${String(warmUp)} | ${middle((r) => r.req_per_s, 0)} | ${middle((r) => r.latency.p50_ms, 2)} | ${middle((r) => r.latency.p99_ms, 1)} | ${middle((r) => r.server.cpu_us_per_req, 0)} | ${middle((r) => r.other_load_cores, 2)} | ${String(rows.reduce((sum, r) => sum + r.errors, 0))} |`,
      );
    }
  }
}

function fixtureFlags(fixtures: string): string[] {
  return [
    '-jwks',
    join(fixtures, 'jwks.json'),
    '-tls-cert',
    join(fixtures, 'tls-server.pem'),
    '-tls-key',
    join(fixtures, 'tls-server.key'),
  ];
}

async function startSignet(folder: string, jwksFile: string, cpus: string | undefined, spareRoots = false) {
  const server = await startServerUnderTest({
    folder,
    jwksFile,
    issuer: harnessIssuer,
    spareRoots,
    ...(cpus === undefined ? {} : { cpus }),
  });
  return { pid: server.pid, address: server.grpc, ca: server.caFile, stop: server.stop, changeBundleCommand: server.changeBundleCommand };
}

const sdsShape = z.object({
  open_all_ms: z.number(),
  server: z.object({ rss_per_stream_kib: z.number() }),
  failed_streams: z.number(),
  rounds: z.array(z.object({ last_ms: z.number(), first_to_last_ms: z.number() })),
});

const sdsPeers = ['gcpsds', 'HTTP/2 alone', 'grpc-js alone', 'signet'] as const;
type SdsPeer = (typeof sdsPeers)[number];

async function sdsSideBySide(harness: string, folder: string): Promise<void> {
  const fixtures = join(folder, 'sds-fixtures');
  await run(harness, 'gen', ['-out', fixtures, '-tokens', '200', '-csrs', '1', '-ttl', '12h', '-aud', 'signet']);
  console.log('\nSDS, state of the world, Go load client; median of the runs\n');
  console.log('| server | streams:connections | open all ms | KiB a stream | change to last stream ms | first to last ms | failed |');
  console.log('|---|---|---|---|---|---|---|');
  for (const shape of (process.env['BENCH_SWARMS'] ?? '1000:10 4000:4000 10000:100').split(' ')) {
    const measured = sdsPeers.map((peer) => ({ peer, rows: new Array<z.output<typeof sdsShape>>() }));
    // In turns: the machine is another one from minute to minute.
    for (let round = 0; round < rounds; round++) {
      for (const { peer, rows } of measured) rows.push(await swarmOf(harness, join(folder, `sds-${String(round)}`), fixtures, peer, shape));
    }
    for (const { peer, rows } of measured) {
      const pushes = rows.flatMap((one) => one.rounds);
      console.log(
        `| ${peer} | ${shape} | ${median(rows.map((m) => m.open_all_ms)).toFixed(0)} | ${median(rows.map((m) => m.server.rss_per_stream_kib)).toFixed(1)} | ${median(pushes.map((p) => p.last_ms)).toFixed(0)} | ${median(pushes.map((p) => p.first_to_last_ms)).toFixed(0)} | ${String(rows.reduce((sum, m) => sum + m.failed_streams, 0))} |`,
      );
    }
  }
}

/** One server, the same swarm from start to end. */
async function swarmOf(
  harness: string,
  folder: string,
  fixtures: string,
  peer: SdsPeer,
  shape: string,
): Promise<z.output<typeof sdsShape>> {
  const [streams = '', connections = ''] = shape.split(':');
  mkdirSync(folder, { recursive: true });
  const server = await startSdsServer(harness, folder, fixtures, peer);
  try {
    const common = ['-names', 'ROOTCA', '-proto', 'sotw', '-streams', streams, '-conns', connections, '-rounds', '3', '-settle', '1s'];
    return sdsShape.parse(JSON.parse(await run(harness, 'sdsswarm', [...common, ...server.flags, '-server-pid', String(server.pid)])));
  } finally {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function startSdsServer(
  harness: string,
  folder: string,
  fixtures: string,
  peer: SdsPeer,
): Promise<Peer & { readonly flags: readonly string[] }> {
  const [certificate, key, ca] = ['tls-server.pem', 'tls-server.key', 'tls-ca.pem'].map((name) => join(fixtures, name)) as [
    string,
    string,
    string,
  ];
  if (peer === 'signet') {
    const server = await startSignet(folder, join(fixtures, 'jwks.json'), undefined, true);
    const tokens = join(fixtures, 'tokens-rs256.txt');
    return { ...server, flags: ['-addr', server.address, '-ca', server.ca, '-tokens', tokens, '-trigger-cmd', server.changeBundleCommand] };
  }
  const server =
    peer === 'gcpsds'
      ? await startPeer(harness, 'gcpsds', ['-tls-cert', certificate, '-tls-key', key])
      : await startProgram(process.cwd(), process.execPath, [
          ...['test/bench/bare-grpc-server.ts', '--library', peer === 'HTTP/2 alone' ? 'http2' : 'grpc-js'],
          ...['--cert', certificate, '--key', key, '--bundle', ca],
        ]);
  return { ...server, flags: ['-addr', '127.0.0.1:15020', '-ca', ca, '-trigger-url', 'http://127.0.0.1:15021/rotate?name=ROOTCA'] };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
