import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createLocalJWKSet, jwtVerify } from 'jose';
import type { JSONWebKeySet } from 'jose';
import { createDevIssuerKey, devIssuerName, openDevIssuer } from '../../../src/identity/dev-issuer.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';
import { foreignKey } from '../../support/forge.ts';
import { kubernetesIssuer, noHurry, tokenWorld, withToken } from '../../support/token-world.ts';

const web = { namespace: 'shop', serviceAccount: 'web', audience: 'signet', ttlMs: 3_600_000 };

describe('the development issuer', () => {
  const clock = simulatedClock(Date.now());
  const pem = createDevIssuerKey();
  const issuer = openDevIssuer(pem, { clock });

  it('mints tokens that its key set verifies, for us and for jose', async () => {
    const token = await issuer.mint(web);
    const world = tokenWorld({ issuers: [kubernetesIssuer({ issuer: devIssuerName, keys: { inline: issuer.jwks() } })] });
    const caller = await world.authenticator.authenticate(withToken(token), noHurry);
    assert.equal(caller.spiffeId, 'spiffe://example.org/ns/shop/sa/web');
    const verified = await jwtVerify(token, createLocalJWKSet(issuer.jwks() as JSONWebKeySet), {
      issuer: devIssuerName,
      audience: 'signet',
      algorithms: ['ES256'],
      currentDate: new Date(clock.now()),
    });
    assert.equal(verified.payload.sub, 'system:serviceaccount:shop:web');
    assert.ok(!token.includes('\n'));
  });

  it('names a pod the same way in every run, and no two alike', async () => {
    const again = openDevIssuer(pem, { clock });
    const instanceOf = async (from: typeof issuer, fields: object) => {
      const [, payload = ''] = (await from.mint({ ...web, ...fields })).split('.');
      const claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as {
        'kubernetes.io': { pod: { name: string; uid: string } };
      };
      assert.match(claims['kubernetes.io'].pod.uid, /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
      return `${claims['kubernetes.io'].pod.name} ${claims['kubernetes.io'].pod.uid}`;
    };
    const first = await instanceOf(issuer, {});
    assert.match(first, /^web-0 /);
    assert.equal(await instanceOf(again, {}), first);
    assert.equal(await instanceOf(issuer, { pod: 'web-0' }), first);
    assert.equal(new Set([first, await instanceOf(issuer, { pod: 'web-1' }), await instanceOf(issuer, { namespace: 'bank' })]).size, 3);
  });

  it('mints for several audiences and for as long as it is told', async () => {
    const token = await issuer.mint({ ...web, audience: ['signet', 'istio-ca'], ttlMs: 20_500 });
    const [, payload = ''] = token.split('.');
    const { aud, iat, exp } = JSON.parse(Buffer.from(payload, 'base64url').toString()) as { aud: string[]; iat: number; exp: number };
    assert.deepEqual(aud, ['signet', 'istio-ca']);
    assert.equal(exp - iat, 20);
  });

  it('refuses names that Kubernetes would, so that a claim never has to be', async () => {
    for (const wrong of [
      { namespace: 'a/b' },
      { namespace: '' },
      { namespace: 'Shop' },
      { serviceAccount: '../x' },
      { pod: 'a b' },
      { ttlMs: 0 },
    ]) {
      await assert.rejects(issuer.mint({ ...web, ...wrong }), { code: 'INVALID_ARGUMENT' }, JSON.stringify(wrong));
    }
  });

  it('opens its own kind of key alone, and shows nothing of another', () => {
    const other = foreignKey('rsa-2048').export({ type: 'pkcs8', format: 'pem' }).toString();
    for (const bad of ['', 'no key', other, pem.slice(0, 60)]) {
      assert.throws(
        () => openDevIssuer(bad, { clock }),
        (error) => error instanceof Error && error.message.includes('P-256') && error.cause === undefined,
      );
    }
  });
});
