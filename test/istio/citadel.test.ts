/** The CA client of istio-agent, as Istio has it, against the real server. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import { istioClient, istioSign } from '../support/istio-client.ts';
import type { IstioSettings } from '../support/istio-client.ts';
import { mintToken, startSignet } from '../support/signet.ts';
import type { RunningSignet } from '../support/signet.ts';
import { tempFolder } from '../support/temp.ts';
import type { TempFolder } from '../support/temp.ts';

const hour = 3600;

let folder: TempFolder;
let signet: RunningSignet;

before(
  async () => {
    await istioClient();
    folder = await tempFolder();
    const config = { limits: { issuancePerSecond: 2, issuanceBurst: 1 } };
    await writeFile(folder.file('signet.yaml'), stringify(config));
    signet = await startSignet({ data: folder.file('data'), leafTtl: '1h', outagesWith: folder.file('signet.yaml') });
  },
  { timeout: 1_800_000 },
);
after(async () => {
  await signet[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
});

/** What a pod with this service account starts istio-agent with. Each test has an account, and so a rate, of its own. */
async function pod(account: string, more: IstioSettings = {}): Promise<IstioSettings> {
  const token = folder.file(`${account}.token`);
  await writeFile(token, await mintToken(signet.data, { namespace: 'shop', serviceAccount: account, audience: 'istio-ca' }));
  return { address: signet.grpc, roots: join(signet.data, 'server-ca.pem'), token, namespace: 'shop', account, ttl: '30m', ...more };
}

/** How often CreateCertificate was answered so, as the server counts it. */
async function answered(code: string): Promise<number> {
  const page = await (await fetch(`http://${signet.http}/metrics`)).text();
  const line = page
    .split('\n')
    .find((text) => text.startsWith('signet_requests_total') && text.includes('CreateCertificate') && text.includes(`"${code}"`));
  return Number(line?.split(' ').at(-1) ?? 0);
}

function leafOf(chain: readonly string[] | null): X509Certificate {
  return new X509Certificate(chain?.[0] ?? '');
}

describe("Istio's CA client", () => {
  for (const [what, more] of [
    ['P-256', {}],
    ['RSA', { rsa: '2048' }],
  ] as const) {
    it(`has a CSR for a key of ${what} signed, and finds nothing wrong with the chain`, async () => {
      const got = await istioSign(await pod(`web-${what.toLowerCase()}`, more));
      assert.equal(got.refused, undefined);
      assert.equal(got.fault, undefined);
      assert.equal(got.chain?.length, 3);
      assert.equal(leafOf(got.chain).subjectAltName, `URI:spiffe://cluster.local/ns/shop/sa/web-${what.toLowerCase()}`);
    });
  }

  it('renews by the certificate that it has, without a token', async () => {
    const files = { 'out-cert': folder.file('web.crt'), 'out-key': folder.file('web.key') };
    const { token, ...withoutToken } = await pod('renewing', files);
    assert.equal((await istioSign({ ...withoutToken, token: String(token) })).refused, undefined);
    const refused = await istioSign(withoutToken);
    assert.match(refused.refused ?? '', /Unauthenticated/, 'without token and certificate it gets nothing');
    await sleep(1000);
    const renewed = await istioSign({ ...withoutToken, cert: files['out-cert'], key: files['out-key'] });
    assert.equal(renewed.refused, undefined);
    assert.equal(renewed.fault, undefined);
  });

  it('with a wrong token is refused at once and without a reason, and does not ask again', async () => {
    const settings = await pod('stranger');
    await writeFile(settings['token'] ?? '', `${await mintToken(signet.data, { namespace: 'shop', serviceAccount: 'stranger' })}x`);
    const before_ = await answered('UNAUTHENTICATED');
    const got = await istioSign(settings);
    assert.match(got.refused ?? '', /code = Unauthenticated desc = authentication failed$/);
    assert.equal((await answered('UNAUTHENTICATED')) - before_, 1);
  });

  it('that asks for longer than its tier gets what the tier gives; above 90 days it is refused, and does not ask again', async () => {
    const capped = leafOf((await istioSign(await pod('greedy', { ttl: '168h' }))).chain);
    const seconds = (capped.validToDate.getTime() - Date.now()) / 1000;
    assert.ok(seconds > 0.4 * hour && seconds <= hour, `${String(seconds)} s`);
    await sleep(1000);
    const got = await istioSign(await pod('greedy', { ttl: `${String(91 * 24)}h` }));
    assert.match(got.refused ?? '', /code = InvalidArgument/);
    assert.equal(await answered('TTL_TOO_LONG'), 1);
  });

  it('gets the backend that CertSigner names if it is its own, and hears clearly of one that is not there', async () => {
    assert.equal((await istioSign(await pod('signer', { signer: 'builtin' }))).fault, undefined);
    await sleep(1000);
    assert.match(
      (await istioSign(await pod('signer', { signer: 'vault' }))).refused ?? '',
      /InvalidArgument.*CertSigner names no CA backend/,
    );
  });

  it('over its rate waits and asks again by itself, until it has its certificate', async () => {
    const settings = await pod('hasty');
    const [first, second] = await Promise.all([istioSign(settings), istioSign(settings)]);
    assert.deepEqual([first.refused, second.refused], [undefined, undefined]);
    assert.deepEqual([first.fault, second.fault], [undefined, undefined]);
    assert.ok((await answered('RATE_LIMITED')) >= 1);
  });

  it('asks again by itself while the CA is out of order', async () => {
    await signet.authority('fails');
    const asking = istioSign(await pod('patient'));
    // Long enough for a program to start on a busy machine, and to be told no at least once.
    for (let waited = 0; waited < 20_000 && (await answered('AUTHORITY_UNAVAILABLE')) === 0; waited += 20) await sleep(20);
    await signet.authority('works');
    const got = await asking;
    assert.equal(got.refused, undefined);
    assert.equal(got.fault, undefined);
    assert.ok((await answered('AUTHORITY_UNAVAILABLE')) >= 1);
  });

  it('gives up on a server that is away after its own retries, and is served once it is back', async () => {
    const settings = await pod('lonely');
    await signet.kill('SIGTERM');
    assert.match((await istioSign(settings)).refused ?? '', /code = Unavailable/);
    signet = await signet.restart();
    const got = await istioSign({ ...settings, address: signet.grpc });
    assert.equal(got.refused, undefined);
    assert.equal(got.fault, undefined);
  });
});
