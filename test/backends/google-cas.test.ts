import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../src/base/clock.ts';
import { SignetError } from '../../src/base/errors.ts';
import type { Authority } from '../../src/ca/authority.ts';
import { openGcpCasAuthority } from '../../src/ca/gcp-cas/gcp-cas-authority.ts';
import { parseTrustDomain } from '../../src/spiffe/id.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { verifyChain } from '../../src/x509/chain.ts';
import { authoritySuite, signingRequest } from '../support/authority-suite.ts';
import { EmulatedGoogleError, emulatedGoogle } from '../support/emulated-google.ts';
import type { EmulatedGoogle } from '../support/emulated-google.ts';
import { eventually } from '../support/eventually.ts';
import { silentLog } from '../support/silent-log.ts';

const trustDomain = parseTrustDomain('example.org');
const never = new AbortController().signal;

async function opened(google: EmulatedGoogle, options: { readonly wrong?: boolean; readonly caPool?: string } = {}): Promise<Authority> {
  return openGcpCasAuthority({
    name: 'google',
    caPool: options.caPool ?? google.caPool,
    credentialsFile: await google.credentialsFile({ wrong: options.wrong ?? false }),
    endpoint: google.url,
    clock: systemClock,
    random: Math.random,
    log: silentLog,
    refreshMs: 1000,
  });
}

authoritySuite({
  name: 'gcp-cas',
  engine: 'an emulation of our own, of the published REST API',
  trustDomain,
  intermediates: 1,
  async make() {
    const google = await emulatedGoogle();
    return {
      open: () => opened(google),
      faults: {
        outage: google.outage,
        openRefused: () => opened(google, { wrong: true }),
        openMisconfigured: () => opened(google, { caPool: `${google.caPool}-other` }),
        throttle() {
          google.fault = new EmulatedGoogleError(429, 'RESOURCE_EXHAUSTED', 'Quota exceeded', [
            { '@type': 'type.googleapis.com/google.rpc.RetryInfo', retryDelay: '2.5s' },
          ]);
          return Promise.resolve(() => {
            google.fault = undefined;
            return Promise.resolve();
          });
        },
        async outliveCredential() {
          google.tokenLifeMs = 6000;
          google.revoke();
          await sleep(9000);
        },
        rotate: () => google.addCa({ only: true }),
      },
      async dispose() {
        await google[Symbol.asyncDispose]();
      },
    };
  },
});

describe("the authority of Google's Certificate Authority Service", () => {
  it('describes the certificate itself, key usages included', async () => {
    await using google = await emulatedGoogle();
    const authority = await opened(google);
    const leaf = parseCertificate((await authority.sign(signingRequest(trustDomain), never)).certificates[0]);
    assert.deepEqual([...(leaf.keyUsage ?? [])], ['digitalSignature']);
    assert.equal(leaf.extendedKeyUsage?.length, 2);
    await authority.close();
  });

  it('a retry of the same request gets the certificate that was made, and is paid once', async () => {
    await using google = await emulatedGoogle();
    const authority = await opened(google);
    const request = signingRequest(trustDomain);
    const [first, second] = [await authority.sign(request, never), await authority.sign(request, never)];
    assert.ok(first.certificates[0].equals(second.certificates[0]));
    assert.equal(google.made(), 1);
    await authority.close();
  });

  it('a CA that is added to the pool is an anchor before the old one is gone', async () => {
    await using google = await emulatedGoogle();
    const authority = await opened(google);
    await google.addCa();
    await eventually('two anchors', async () => ((await authority.anchors(never)).length === 2 ? true : undefined));
    const signed = await authority.sign(signingRequest(trustDomain), never);
    verifyChain(signed.certificates, await authority.anchors(never), Date.now());
    await authority.close();
  });

  it('says when to come back, what permission is missing, and nothing of what Google says', async () => {
    await using google = await emulatedGoogle();
    const authority = await opened(google);
    const failure = async (fault: EmulatedGoogleError): Promise<SignetError> => {
      google.fault = fault;
      try {
        await authority.sign(signingRequest(trustDomain), never);
      } catch (error) {
        if (error instanceof SignetError) return error;
      }
      throw new Error('it did not fail');
    };
    const retry = { '@type': 'type.googleapis.com/google.rpc.RetryInfo', retryDelay: '2.5s' };
    assert.equal((await failure(new EmulatedGoogleError(429, 'RESOURCE_EXHAUSTED', 'x', [retry]))).retryAfterMs, 2500);
    const denied = await failure(new EmulatedGoogleError(403, 'PERMISSION_DENIED', 'signet@secret-project denied'));
    assert.equal(denied.code, 'AUTHORITY_REFUSED');
    assert.match(denied.message, /privateca\.certificates\.create/);
    assert.doesNotMatch(denied.message, /secret-project/);
    const off = { '@type': 'type.googleapis.com/google.rpc.ErrorInfo', reason: 'SERVICE_DISABLED' };
    assert.equal((await failure(new EmulatedGoogleError(403, 'PERMISSION_DENIED', 'x', [off]))).code, 'AUTHORITY_MISCONFIGURED');
    assert.equal((await failure(new EmulatedGoogleError(503, 'UNAVAILABLE'))).code, 'AUTHORITY_UNAVAILABLE');
    await authority.close();
  });
});
