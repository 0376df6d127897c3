/**
 * npm run bench: what a certificate and a stream cost, measured on this machine with the project's own load clients.
 * With PEERS naming a copy of the peer harness (Go load clients and peer servers, built), everything is measured side
 * by side in the same run; with SPIRE_BIN naming the folder of spire-server and spire-agent, so is the agent. BENCH_ONLY
 * (csr, sds, agent, signer) runs one part alone. Only ratios of one run mean anything: machines differ, and so does one
 * machine from hour to hour.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { benchAgent } from './agents.ts';
import { makeFixtures } from './fixtures.ts';
import { benchWithPeers } from './peers.ts';
import { benchSigners } from './signers.ts';
import { startServerUnderTest } from './server-under-test.ts';

const seconds = process.env['BENCH_SECONDS'] ?? '5';
const swarms = (process.env['BENCH_SWARMS'] ?? '1000:10 4000:4000 10000:100').split(' ');
type Part = z.output<typeof part>;
const part = z.enum(['csr', 'sds', 'agent', 'signer']);
/** BENCH_ONLY: one part alone. */
const only = part.optional().parse(process.env['BENCH_ONLY']);
const folder = mkdtempSync(join(tmpdir(), 'signet-bench-'));

const csrResult = z.object({
  requests: z.number(),
  errors: z.number(),
  firstError: z.string(),
  requestsPerSecond: z.number(),
  p50Ms: z.number(),
  p99Ms: z.number(),
  serverCpuMicrosPerRequest: z.number(),
  serverResidentMiB: z.number(),
  otherLoadCores: z.number(),
});
const openResult = z.object({
  streams: z.number(),
  failed: z.number(),
  firstFailure: z.string(),
  openMs: z.number(),
  firstResponseP50Ms: z.number(),
  firstResponseP99Ms: z.number(),
  residentKiBPerStream: z.number(),
});
const pushResult = z.object({ lastMs: z.number(), serverCpuMs: z.number(), failed: z.number() });

function load(script: string, args: readonly string[], cpus: string | undefined) {
  const command = [process.execPath, `test/bench/${script}`, ...args];
  const [program = '', ...rest] = cpus === undefined ? command : ['taskset', '-c', cpus, ...command];
  return spawn(program, rest, { stdio: ['pipe', 'pipe', 'inherit'] });
}

async function csrCase(label: string, algorithm: 'RS256' | 'ES256' | 'mixed', tokens: number, pinned: boolean): Promise<void> {
  const fixtures = await makeFixtures(join(folder, label), {
    tokens,
    csrs: Math.min(tokens * 100, 20_000),
    audience: 'istio-ca',
    algorithm,
  });
  const server = await startServerUnderTest({ folder: join(folder, label), jwksFile: fixtures.jwksFile, ...(pinned ? { cpus: '0' } : {}) });
  try {
    const args = ['--address', server.grpc, '--ca', server.caFile, '--tokens', fixtures.tokensFile, '--csrs', fixtures.csrsFile];
    const child = load('csr-load.ts', [...args, '--seconds', seconds, '--pid', String(server.pid)], pinned ? '1' : undefined);
    const lines = createInterface({ input: child.stdout });
    const [line] = (await once(lines, 'line')) as [string];
    const result = csrResult.parse(JSON.parse(line));
    row(
      label,
      result.requestsPerSecond.toFixed(0),
      result.p50Ms.toFixed(2),
      result.p99Ms.toFixed(1),
      result.serverCpuMicrosPerRequest.toFixed(0),
      result.serverResidentMiB.toFixed(0),
      result.otherLoadCores.toFixed(2),
      result.errors === 0 ? '0' : `${String(result.errors)} (${result.firstError})`,
    );
  } finally {
    await server.stop();
  }
}

async function swarmCase(shape: string): Promise<void> {
  const [streams = '1000', connections = '10'] = shape.split(':');
  const label = `sds-${streams}-${connections}`;
  const fixtures = await makeFixtures(join(folder, label), { tokens: 200, csrs: 1, audience: 'signet', algorithm: 'RS256' });
  const server = await startServerUnderTest({ folder: join(folder, label), jwksFile: fixtures.jwksFile, spareRoots: true });
  try {
    const args = ['--address', server.grpc, '--ca', server.caFile, '--tokens', fixtures.tokensFile, '--pid', String(server.pid)];
    const child = load('sds-swarm.ts', [...args, '--streams', streams, '--connections', connections], undefined);
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const next = async (): Promise<unknown> => JSON.parse(z.string().parse((await lines.next()).value));
    const opened = openResult.parse(await next());
    const pushes: z.output<typeof pushResult>[] = [];
    for (let round = 0; round < 3; round++) {
      child.stdin.write('change\n');
      await next();
      server.changeBundle();
      pushes.push(pushResult.parse(await next()));
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
    child.stdin.write('stop\n');
    const last = pushes.map((push) => push.lastMs).sort((a, b) => a - b);
    row(
      shape,
      opened.openMs.toFixed(0),
      opened.firstResponseP50Ms.toFixed(1),
      opened.firstResponseP99Ms.toFixed(1),
      opened.residentKiBPerStream.toFixed(1),
      (last[1] ?? Number.NaN).toFixed(0),
      opened.failed === 0 ? '0' : `${String(opened.failed)} (${opened.firstFailure})`,
    );
  } finally {
    await server.stop();
  }
}

function runs(part: Part): boolean {
  return only === undefined || part === only;
}

function row(...cells: string[]): void {
  console.log(`| ${cells.join(' | ')} |`);
}

try {
  const peers = process.env['PEERS'];
  if (peers !== undefined && only !== 'agent') {
    await benchWithPeers(peers, folder, runs);
  } else {
    if (runs('csr')) {
      console.log('\nCSR to certificate over TLS, verified and durably recorded, concurrency 16\n');
      row('tokens', 'req/s', 'p50 ms', 'p99 ms', 'server CPU us/cert', 'server MiB', 'other load, cores', 'errors');
      row(...Array.from({ length: 8 }, () => '---'));
      await csrCase('RS256-new-pinned', 'RS256', 20_000, true);
      await csrCase('ES256-new-pinned', 'ES256', 20_000, true);
      await csrCase('mixed-repeated-pinned', 'mixed', 200, true);
      await csrCase('RS256-new-unpinned', 'RS256', 20_000, false);
    }
    if (runs('sds')) {
      console.log('\nSDS over TLS with tokens: streams:connections\n');
      row('case', 'open all ms', 'first response p50 ms', 'p99 ms', 'KiB a stream', 'bundle change to last stream ms', 'failed');
      row(...Array.from({ length: 7 }, () => '---'));
      for (const shape of swarms) await swarmCase(shape);
    }
  }
  if (runs('signer') && process.env['PEERS'] === undefined) await benchSigners(folder, seconds);
  if (runs('agent')) await benchAgent(folder, process.env['SPIRE_BIN']);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
