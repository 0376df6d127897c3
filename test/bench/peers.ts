import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { csrSideBySide } from './csr-bursts.ts';
import { median, run, startPeer, startProgram, startSignet } from './harness.ts';
import type { Peer } from './harness.ts';

/**
 * Side by side with the peers of a harness folder: its bin/ holds gen, csrload, sdsswarm, istioca and gcpsds. All
 * servers get the same fixtures and the same Go load client, in turns, in one run.
 */
const rounds = Number(process.env['BENCH_ROUNDS'] ?? '3');

export async function benchWithPeers(harness: string, folder: string, runs: (part: 'csr' | 'sds') => boolean): Promise<void> {
  for (const tool of ['gen', 'csrload', 'sdsswarm', 'istioca', 'gcpsds']) {
    if (!existsSync(join(harness, 'bin', tool)))
      throw new Error(`${harness}/bin/${tool} is not there: build the harness first, as its README says`);
  }
  if (runs('csr')) await csrSideBySide(harness, folder);
  if (runs('sds')) await sdsSideBySide(harness, folder);
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
    return { ...server, flags: ['-addr', server.address, '-ca', server.ca, '-tokens', tokens, '-trigger-url', server.changeUrl] };
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
