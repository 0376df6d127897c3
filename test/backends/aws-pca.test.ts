import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../src/base/clock.ts';
import { SignetError } from '../../src/base/errors.ts';
import type { Authority } from '../../src/ca/authority.ts';
import { openAwsPcaAuthority } from '../../src/ca/aws-pca/aws-pca-authority.ts';
import { parseTrustDomain } from '../../src/spiffe/id.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { authoritySuite, signingRequest } from '../support/authority-suite.ts';
import { FakeAwsError, withEnvironment } from '../support/fake-aws.ts';
import { fakeAwsPca } from '../support/fake-aws-pca.ts';
import type { FakeAwsPca } from '../support/fake-aws-pca.ts';
import { silentLog } from '../support/silent-log.ts';

const trustDomain = parseTrustDomain('example.org');
const never = new AbortController().signal;

function opened(pca: FakeAwsPca, options: { readonly wrong?: boolean; readonly certificateAuthority?: string } = {}): Promise<Authority> {
  return withEnvironment(pca.environment({ wrong: options.wrong ?? false }), () =>
    openAwsPcaAuthority({
      name: 'aws',
      certificateAuthority: options.certificateAuthority ?? pca.certificateAuthority,
      endpoint: pca.url,
      clock: systemClock,
      random: Math.random,
      log: silentLog,
      refreshMs: 1000,
    }),
  );
}

authoritySuite({
  name: 'aws-pca',
  engine: 'a fake of our own, of the published API',
  trustDomain,
  intermediates: 1,
  async make() {
    const pca = await fakeAwsPca();
    pca.inProgress = 0;
    // AWS's credential chain reads the environment again whenever it needs another.
    Object.assign(process.env, pca.environment());
    return {
      open: () => opened(pca),
      faults: {
        outage: pca.outage,
        openRefused: () => opened(pca, { wrong: true }),
        openMisconfigured: () => opened(pca, { certificateAuthority: pca.certificateAuthority.replace(/[0-9a-f]{12}$/, '000000000000') }),
        throttle() {
          pca.fault = new FakeAwsError('ThrottlingException', 'Rate exceeded');
          return Promise.resolve(() => {
            pca.fault = undefined;
            return Promise.resolve();
          });
        },
        async outliveCredential() {
          pca.credentialLifeMs = 6000;
          pca.revoke();
          await sleep(9000);
        },
        rotate: pca.rotate,
      },
      dispose: async () => {
        await pca[Symbol.asyncDispose]();
      },
    };
  },
});

describe('the authority of AWS Private CA', () => {
  it('says all that is in the certificate, whatever the CSR says, and dates it to the second', async () => {
    await using pca = await fakeAwsPca();
    const authority = await opened(pca);
    const request = signingRequest(trustDomain);
    const leaf = parseCertificate((await authority.sign(request, never)).certificates[0]);
    assert.equal(leaf.subjectText, 'O=example.org, CN=/ns/shop/sa/web');
    assert.deepEqual([...(leaf.keyUsage ?? [])], ['digitalSignature']);
    assert.deepEqual([leaf.notBefore, leaf.notAfter], [request.notBefore, request.notAfter]);
    await authority.close();
  });

  it('waits for a certificate that takes its time, also where the quota of asking is used up', async () => {
    await using pca = await fakeAwsPca();
    const authority = await opened(pca);
    pca.inProgress = 3;
    const signing = authority.sign(signingRequest(trustDomain), never);
    while (pca.made() === 0) await sleep(5);
    pca.fault = new FakeAwsError('ThrottlingException');
    await sleep(600);
    pca.fault = undefined;
    assert.equal((await signing).certificates.length, 2);
    assert.equal(pca.made(), 1);
    await authority.close();
  });

  it('a retry of the same request gets the certificate that was made, and is paid once', async () => {
    await using pca = await fakeAwsPca();
    const authority = await opened(pca);
    const request = signingRequest(trustDomain);
    const lost = new AbortController();
    const first = authority.sign(request, lost.signal);
    while (pca.made() === 0) await sleep(5);
    lost.abort();
    await assert.rejects(first, { code: 'CANCELLED' });
    await authority.sign(request, never);
    assert.equal(pca.made(), 1);
    await authority.sign(signingRequest(trustDomain), never);
    assert.equal(pca.made(), 2);
    await authority.close();
  });

  it('a disabled CA is misconfigured, not away; nothing of AWS text is in what a client sees', async () => {
    await using pca = await fakeAwsPca();
    const authority = await opened(pca);
    pca.state = 'DISABLED';
    await assert.rejects(authority.sign(signingRequest(trustDomain), never), (error: unknown) => {
      assert.ok(error instanceof SignetError);
      assert.equal(error.code, 'AUTHORITY_MISCONFIGURED');
      assert.doesNotMatch(error.message, /valid state/);
      assert.match(String(error.cause), /valid state/);
      return true;
    });
    await authority.close();
  });

  it('renews its credential before that ends, without a request that waits for it', async () => {
    await using pca = await fakeAwsPca();
    pca.credentialLifeMs = 9000;
    const authority = await opened(pca);
    const environment = pca.environment();
    // The chain reads the environment again at each renewal.
    await withEnvironment(environment, async () => {
      await sleep(11_000);
      assert.ok(pca.credentialsGiven() >= 2);
      await authority.sign(signingRequest(trustDomain), never);
    });
    await authority.close();
  });

  it('starts while the CA is away, and signs once it is there', async () => {
    await using pca = await fakeAwsPca();
    await pca.outage.stop();
    const authority = await opened(pca);
    assert.equal((await authority.health(never)).canSign, false);
    await assert.rejects(authority.sign(signingRequest(trustDomain), never), { code: 'AUTHORITY_UNAVAILABLE' });
    await pca.outage.start();
    assert.equal((await authority.sign(signingRequest(trustDomain), never)).certificates.length, 2);
    await authority.close();
  });
});
