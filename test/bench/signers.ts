/** What a key elsewhere costs: a real SoftHSM behind a module that takes as long as an HSM or a key service does. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { systemClock } from '../../src/base/clock.ts';
import { createSignerKey } from '../../src/ca/open-signer.ts';
import { pkcs11Settings } from '../../src/ca/pkcs11/settings.ts';
import { createRootCertificate, signRootCertificate } from '../../src/x509/ca-certificate.ts';
import { generateKeyPair, privateKeyPem } from '../../src/x509/keys.ts';
import { pemEncode } from '../../src/x509/pem.ts';
import { startSoftHsm } from '../support/engines/softhsm.ts';
import type { SoftHsm } from '../support/engines/softhsm.ts';
import { silentLog } from '../support/silent-log.ts';
import type { CsrLoadResult } from './csr-load.ts';
import { makeFixtures } from './fixtures.ts';
import type { IssuingLoadResult } from './issuing-load.ts';
import { startServerUnderTest } from './server-under-test.ts';

const concurrency = 64;
const delays = (process.env['BENCH_DELAYS'] ?? '0 10 20 50').split(' ').map(Number);
const never = new AbortController().signal;

export async function benchSigners(folder: string, seconds: string): Promise<void> {
  console.log(
    `\nCSR to certificate over TLS, the CA's P-256 key in a file or in SoftHSM behind a delay, concurrency ${String(concurrency)}\n`,
  );
  row('key', 'req/s', 'p50 ms', 'p99 ms', 'server CPU us/cert', 'event loop delay p99 ms', 'other load, cores', 'errors');
  row(...Array.from({ length: 8 }, () => '---'));
  await using hsm = await startSoftHsm();
  const fixtures = await makeFixtures(join(folder, 'signers'), { tokens: 5000, csrs: 20_000, audience: 'istio-ca', algorithm: 'ES256' });
  const cases = [
    { label: 'file', delayMs: undefined },
    ...delays.map((delayMs) => ({ label: delayMs === 0 ? 'HSM' : `HSM, ${String(delayMs)} ms`, delayMs })),
  ];
  for (const { label, delayMs } of cases) {
    const at = join(folder, `signer-${String(delayMs ?? 'file')}`);
    mkdirSync(at, { recursive: true });
    await hsm.faults(undefined);
    const backend = delayMs === undefined ? inFile(at) : await inHsm(hsm, at, `key-${String(delayMs)}`);
    await hsm.faults(delayMs ? { delayMs } : undefined);
    await throughPipeline(label, backend, hsm, seconds);
    const server = await startServerUnderTest({ folder: at, jwksFile: fixtures.jwksFile, backend, env: hsm.env });
    try {
      const load = ['--address', server.grpc, '--ca', server.caFile, '--tokens', fixtures.tokensFile, '--csrs', fixtures.csrsFile];
      const more = ['--seconds', seconds, '--pid', String(server.pid), '--concurrency', String(concurrency)];
      await eventLoopDelayMs(server.http);
      const child = spawn(process.execPath, ['test/bench/csr-load.ts', ...load, ...more], { stdio: ['ignore', 'pipe', 'inherit'] });
      const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
      const result = JSON.parse(line) as CsrLoadResult;
      row(
        label,
        result.requestsPerSecond.toFixed(0),
        result.p50Ms.toFixed(1),
        result.p99Ms.toFixed(1),
        result.serverCpuMicrosPerRequest.toFixed(0),
        (await eventLoopDelayMs(server.http)).toFixed(1),
        result.otherLoadCores.toFixed(2),
        result.errors === 0 ? '0' : `${String(result.errors)} (${result.firstError})`,
      );
    } finally {
      await server.stop();
    }
  }
}

const dates = () => {
  const now = Math.floor(Date.now() / 1000) * 1000;
  return { commonName: 'bench root', organization: 'bench', notBefore: now - 3_600_000, notAfter: now + 100 * 86_400_000 };
};

function inFile(folder: string): object {
  const key = generateKeyPair();
  const [root, keyFile] = [join(folder, 'own-root.pem'), join(folder, 'own.key')];
  writeFileSync(root, pemEncode('CERTIFICATE', createRootCertificate({ key, ...dates() })));
  writeFileSync(keyFile, privateKeyPem(key.privateKey), { mode: 0o600 });
  return { type: 'files', root, key: keyFile };
}

async function inHsm(hsm: SoftHsm, folder: string, keyLabel: string): Promise<object> {
  const { module, tokenLabel, pinFile } = hsm;
  const settings = pkcs11Settings.parse({ type: 'pkcs11', module, tokenLabel, keyLabel, pinFile, sessions: concurrency });
  const parts = { setting: 'signer', clock: systemClock, log: silentLog, env: hsm.env };
  const { signer, settings: named } = await createSignerKey(settings, 'ec-p256', parts, never);
  const root = join(folder, 'own-root.pem');
  writeFileSync(root, pemEncode('CERTIFICATE', await signRootCertificate({ spki: signer.spki, signer, ...dates() }, never)));
  await signer.close();
  return { type: 'files', root, signer: named };
}

/** Without gRPC and TLS: what waits for the signer, what is verified and recorded. */
async function throughPipeline(label: string, backend: object, hsm: SoftHsm, seconds: string): Promise<void> {
  const args = ['--backend', JSON.stringify(backend), '--seconds', seconds, '--concurrency', String(concurrency)];
  const env = Object.fromEntries(Object.entries(hsm.env));
  const child = spawn(process.execPath, ['test/bench/issuing-load.ts', ...args], { stdio: ['ignore', 'pipe', 'inherit'], env });
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  const result = JSON.parse(line) as IssuingLoadResult;
  row(
    `${label}; the pipeline alone`,
    result.certificatesPerSecond.toFixed(0),
    result.p50Ms.toFixed(1),
    result.p99Ms.toFixed(1),
    result.cpuMicrosPerCertificate.toFixed(0),
    result.eventLoopDelayP99Ms.toFixed(1),
    result.otherLoadCores.toFixed(2),
    '0',
  );
}

/** What prom-client samples by, and what its histogram holds is the time from sample to sample: an idle process has 10 ms. */
const samplingMs = 10;

/** Since the last time that somebody asked: prom-client measures from scrape to scrape. */
async function eventLoopDelayMs(address: string): Promise<number> {
  const text = await (await fetch(`http://${address}/metrics`)).text();
  return Number(/^nodejs_eventloop_lag_p99_seconds (\S+)$/m.exec(text)?.[1] ?? Number.NaN) * 1000 - samplingMs;
}

function row(...cells: string[]): void {
  console.log(`| ${cells.join(' | ')} |`);
}
