/**
 * A closed loop of callers on the issuing pipeline itself (request parsed and proved, signed elsewhere, verified, recorded
 * durably), in a process of its own and without a network. Reads one JSON object of a `files` backend's settings with a signer;
 * prints one.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setPriority } from 'node:os';
import { parseArgs } from 'node:util';
import { systemClock } from '../../src/base/clock.ts';
import { openFilesAuthority } from '../../src/ca/files/files-authority.ts';
import { keyOf, filesSettings } from '../../src/ca/files/settings.ts';
import { openSigner } from '../../src/ca/open-signer.ts';
import type { Caller } from '../../src/identity/caller.ts';
import { createIssuanceGate } from '../../src/issuance/issuance-gate.ts';
import { createIssuer } from '../../src/issuance/issuer.ts';
import { createPolicy } from '../../src/policy/rules.ts';
import { parseTrustDomain, spiffeId } from '../../src/spiffe/id.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite-store.ts';
import { openTrustBundle } from '../../src/trust/trust-bundle.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { silentLog } from '../support/silent-log.ts';
import { machineBusyMs, percentile, processUsage } from './process-usage.ts';

export interface IssuingLoadResult {
  readonly certificatesPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly cpuMicrosPerCertificate: number;
  readonly eventLoopDelayP99Ms: number;
  readonly otherLoadCores: number;
}

try {
  setPriority(-10); // As the other load clients.
} catch {
  // Only root may.
}
const { values } = parseArgs({
  options: {
    backend: { type: 'string', default: '' },
    concurrency: { type: 'string', default: '64' },
    seconds: { type: 'string', default: '5' },
  },
});
const concurrency = Number(values.concurrency);
const never = new AbortController().signal;
const clock = systemClock;
const log = silentLog;
const trustDomain = parseTrustDomain('cluster.local');
const folder = mkdtempSync(join(tmpdir(), 'signet-bench-'));
const settings = filesSettings.parse(JSON.parse(values.backend));
const key = keyOf(settings);
if (!key) throw new Error('no key');
const ca = { name: 'own', trustDomain, rootFile: settings.root, clock, log };
const authority = await openFilesAuthority(
  'file' in key
    ? { ...ca, keyFile: key.file }
    : { ...ca, signer: await openSigner(key.signer, { setting: 'signer', clock, log, env: process.env }, never) },
);
const store = await openSqliteStore({ file: join(folder, 'signet.db'), clock, log });
const trust = await openTrustBundle({ state: store.trust, clock, log });
await trust.setSource('authority:own', await authority.anchors(never));
const policy = createPolicy(
  {
    tiers: { standard: 86_400_000 },
    rules: [],
    keyModes: [],
    defaults: { tier: 'standard', backend: 'own', keyMode: 'csr', keyDirectories: ['/run/keys'], keyMaxAgeMs: 86_400_000 },
  },
  { trustDomain, denied: () => false },
);
const rate = { perSecond: 1_000_000, burst: 1_000_000 };
const issuer = createIssuer({
  policy,
  authorities: new Map([['own', authority]]),
  anchors: () => trust.current(),
  recorder: { issued: (record) => store.appendIssued([record]), audit: (entry) => store.audit.append([entry]) },
  gate: createIssuanceGate({ random: Math.random, limits: { identityRate: rate, totalRate: rate, concurrency: () => concurrency } }),
  everIssued: ({ spiffeId: id, instance }) => store.issued.any(id, instance),
  newestIssuedAt: undefined,
  clock,
  random: Math.random,
  log,
});
const subjects = Array.from({ length: 2000 }, (_, i) => {
  const id = spiffeId(trustDomain, ['ns', 'bench', 'sa', `s${String(i)}`]);
  const now = clock.now();
  const caller: Caller = {
    issuer: 'bench',
    subject: `s${String(i)}`,
    spiffeId: id,
    instance: 'one',
    authenticatedBy: 'token',
    credentialEnds: now + 86_400_000,
    tokenSeenAt: now,
    provedBy: 'bench',
  };
  return { caller, csr: createCsr(generateKeyPair(), [id]) };
});

let next = 0;
async function loop(until: number, times: number[]): Promise<void> {
  while (performance.now() < until) {
    const subject = subjects[next++ % subjects.length];
    if (!subject) return;
    const begun = performance.now();
    await issuer.issue({ mode: 'signed', ...subject }, never);
    times.push(performance.now() - begun);
  }
}
const run = (ms: number, times: number[]) => Promise.all(Array.from({ length: concurrency }, () => loop(performance.now() + ms, times)));

await run(1500, []);
const times: number[] = [];
const samplingMs = 1;
const delay = monitorEventLoopDelay({ resolution: samplingMs });
delay.enable();
const [begun, used, busy] = [performance.now(), processUsage(process.pid).cpuMs, machineBusyMs()];
await run(Number(values.seconds) * 1000, times);
const [took, cpuMs, busyMs] = [performance.now() - begun, processUsage(process.pid).cpuMs - used, machineBusyMs() - busy];
delay.disable();
times.sort((a, b) => a - b);
const result: IssuingLoadResult = {
  certificatesPerSecond: (times.length * 1000) / took,
  p50Ms: percentile(times, 0.5),
  p99Ms: percentile(times, 0.99),
  cpuMicrosPerCertificate: (cpuMs * 1000) / times.length,
  // The histogram holds the time from sample to sample.
  eventLoopDelayP99Ms: delay.percentile(99) / 1e6 - samplingMs,
  otherLoadCores: (busyMs - cpuMs) / took,
};
console.log(JSON.stringify(result));
trust.close();
await authority.close();
await store.close();
rmSync(folder, { recursive: true });
