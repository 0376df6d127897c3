import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { fixtureFlags, median, run, startPeer, startSignet } from './harness.ts';

const burstShape = z.object({
  server: z.object({ cpu_us_per_req: z.number() }),
  latency: z.object({ p50_ms: z.number(), p99_ms: z.number() }),
  other_load_cores: z.number(),
  errors: z.number(),
});
type Burst = z.output<typeof burstShape>;

const requests = 500;
const bursts = Number(process.env['BENCH_BURSTS'] ?? '74');
/** In certificates: a young server runs code that is half optimized, and its compiler takes the core now and then. */
const spans = [
  { name: '1,000 to 10,000', from: 1_000, to: 10_000 },
  { name: '10,000 to 18,000', from: 10_000, to: 18_000 },
  { name: '18,000 and later', from: 18_000, to: Infinity },
];
const cases = [
  { tokens: 'rs256', pinned: true },
  { tokens: 'es256', pinned: true },
  { tokens: 'mixed', pinned: true },
  { tokens: 'rs256', pinned: false },
];

/**
 * Both servers run at once, and are asked in short bursts in turns, in an order drawn for each: a shared machine is half
 * as fast from one second to the next, which rounds of several seconds take for a difference between the servers.
 */
export async function csrSideBySide(harness: string, folder: string): Promise<void> {
  const fixtures = join(folder, 'csr-fixtures');
  const count = String(bursts * requests);
  await run(harness, 'gen', ['-out', fixtures, '-tokens', count, '-csrs', count, '-ttl', '12h']);
  console.log(
    '\nCSR to certificate, Go load client, concurrency 16, bursts of 500 in turns; CPU is the mean, times are medians of the bursts\n',
  );
  console.log(
    '| tokens | pinned | certificates | server | p50 ms | p99 ms | server CPU us/cert | against Istio CA | other load, cores | errors |',
  );
  console.log('|---|---|---|---|---|---|---|---|---|---|');
  for (const { tokens, pinned } of cases) {
    const parts = splitUp(
      fixtures,
      tokens === 'mixed' ? 'tokens.txt' : `tokens-${tokens}.txt`,
      join(folder, `bursts-${tokens}-${String(pinned)}`),
    );
    const measured = await inTurns(harness, fixtures, folder, parts, pinned);
    for (const { name, from, to } of spans) {
      const cut = (rows: readonly Burst[]): Burst[] => rows.filter((_, i) => i * requests >= from && i * requests < to);
      const floor = mean(cut(measured.istioca));
      for (const [server, all] of Object.entries(measured)) {
        const rows = cut(all);
        if (rows.length === 0) continue;
        const [p50, p99] = [median(rows.map((r) => r.latency.p50_ms)), median(rows.map((r) => r.latency.p99_ms))];
        const [other, errors] = [median(rows.map((r) => r.other_load_cores)), rows.reduce((sum, r) => sum + r.errors, 0)];
        console.log(
          `| ${tokens} | ${pinned ? 'yes' : 'no'} | ${name} | ${server} | ${p50.toFixed(1)} | ${p99.toFixed(1)} | ${mean(rows).toFixed(0)} | ${(mean(rows) / floor).toFixed(2)} | ${other.toFixed(2)} | ${String(errors)} |`,
        );
      }
    }
  }
}

async function inTurns(
  harness: string,
  fixtures: string,
  folder: string,
  parts: readonly string[],
  pinned: boolean,
): Promise<{ readonly istioca: Burst[]; readonly signet: Burst[] }> {
  const cpus = pinned ? '0' : undefined;
  const own = join(folder, 'csr-signet');
  mkdirSync(own, { recursive: true });
  const istioca = {
    ...(await startPeer(harness, 'istioca', fixtureFlags(fixtures), cpus)),
    address: '127.0.0.1:15012',
    ca: join(fixtures, 'tls-ca.pem'),
    rows: new Array<Burst>(),
  };
  const signet = { ...(await startSignet(own, join(fixtures, 'jwks.json'), cpus)), rows: new Array<Burst>() };
  try {
    for (const part of parts) {
      for (const server of Math.random() < 0.5 ? [istioca, signet] : [signet, istioca]) {
        const output = await run(
          harness,
          'csrload',
          [
            ...['-addr', server.address, '-ca', server.ca, '-tokens', join(part, 'tokens'), '-csrs', join(part, 'csr')],
            ...['-c', '16', '-n', String(requests), '-warmup', '0s', '-server-pid', String(server.pid)],
          ],
          pinned ? '1' : undefined,
        );
        server.rows.push(burstShape.parse(JSON.parse(output)));
      }
    }
  } finally {
    await Promise.all([istioca.stop(), signet.stop()]);
    rmSync(own, { recursive: true, force: true });
  }
  return { istioca: istioca.rows, signet: signet.rows };
}

/** A folder for each burst, so that no token and no request comes twice. */
function splitUp(fixtures: string, tokensFile: string, into: string): string[] {
  const tokens = readFileSync(join(fixtures, tokensFile), 'utf8').trim().split('\n');
  const csrs = readdirSync(join(fixtures, 'csr')).sort();
  return Array.from({ length: bursts }, (_, burst) => {
    const part = join(into, String(burst));
    mkdirSync(join(part, 'csr'), { recursive: true });
    const [from, to] = [burst * requests, (burst + 1) * requests];
    writeFileSync(join(part, 'tokens'), `${tokens.slice(from, to).join('\n')}\n`);
    for (const name of csrs.slice(from, to)) copyFileSync(join(fixtures, 'csr', name), join(part, 'csr', name));
    return part;
  });
}

function mean(rows: readonly Burst[]): number {
  return rows.reduce((sum, row) => sum + row.server.cpu_us_per_req, 0) / rows.length;
}
