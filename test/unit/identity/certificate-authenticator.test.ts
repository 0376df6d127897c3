import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { failureReason } from '../../../src/identity/authentication-failure.ts';
import { combineAuthenticators } from '../../../src/identity/authenticators.ts';
import { createCertificateAuthenticator } from '../../../src/identity/certificate-authenticator.ts';
import type { CertificateAuthenticatorOptions, IssuedFacts } from '../../../src/identity/certificate-authenticator.ts';
import { createExternalCertificateAuthenticator } from '../../../src/identity/external-certificate.ts';
import { parseSpiffeId, parseTrustDomain } from '../../../src/spiffe/id.ts';
import { generateKeyPair } from '../../../src/x509/keys.ts';
import { createLeafIssuer } from '../../../src/x509/leaf.ts';
import { createServerCertificate } from '../../../src/x509/server-certificate.ts';
import { failureOf } from '../../support/failure.ts';
import { day, hour, noon, testCa } from '../../support/forge.ts';
import type { TestCa } from '../../support/forge.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';
import { podClaims, signToken } from '../../support/token-forge.ts';
import { noHurry, tokenWorld, withToken } from '../../support/token-world.ts';

const web = 'spiffe://example.org/ns/shop/sa/web';
let ours: TestCa;
let theirs: TestCa;
before(async () => {
  [ours, theirs] = await Promise.all([testCa('Ours'), testCa('Theirs')]);
});

const noExternal = createExternalCertificateAuthenticator({
  sources: [],
  trustDomain: parseTrustDomain('example.org'),
  clock: simulatedClock(noon),
});

interface Issued {
  readonly chain: readonly Buffer[];
  readonly serial: string;
  readonly facts: IssuedFacts;
}

async function issue(options: { ca?: TestCa; id?: string; lifeMs?: number } = {}): Promise<Issued> {
  const { ca = ours, id = web, lifeMs = day } = options;
  const key = generateKeyPair();
  const spiffeId = parseSpiffeId(id);
  const { der, serial } = await createLeafIssuer(ca.ca).issue({
    spki: key.spki,
    spiffeId,
    notBefore: noon - 60_000,
    notAfter: noon + lifeMs,
  });
  const facts = { spiffeId: id, instance: 'pod:1', issuer: 'kubernetes', tokenSeenAt: noon - 60_000, spkiSha256: key.spkiSha256 };
  return { chain: [der, ca.intermediate], serial, facts };
}

function world(records: readonly Issued[], options: Partial<CertificateAuthenticatorOptions> = {}) {
  const clock = simulatedClock(noon);
  const anchors = { now: [ours.root] };
  const authenticator = createCertificateAuthenticator({
    trustDomain: parseTrustDomain('example.org'),
    anchors: () => anchors.now,
    issued: (serial) => Promise.resolve(records.find((record) => record.serial === serial)?.facts),
    reauthenticateAfterMs: 7 * day,
    clock,
    ...options,
  });
  const show = (chain: readonly Buffer[]) => authenticator.authenticate(withToken(undefined, { peerChain: chain }), noHurry);
  const reason = async (chain: readonly Buffer[]) => {
    const failure = await failureOf(() => show(chain));
    assert.deepEqual([failure.code, failure.message], ['UNAUTHENTICATED', 'authentication failed']);
    return failureReason(failure);
  };
  return { clock, anchors, authenticator, show, reason };
}

describe('a certificate of ours', () => {
  it('makes the caller that its last token made, with or without its root in the chain', async () => {
    const issued = await issue();
    const { authenticator, show } = world([issued]);
    for (const chain of [issued.chain, [...issued.chain, ours.root]]) {
      const caller = await show(chain);
      assert.deepEqual(
        { ...caller, provedBy: '' },
        {
          issuer: 'kubernetes',
          subject: web,
          spiffeId: web,
          instance: 'pod:1',
          authenticatedBy: 'certificate',
          credentialEnds: noon + day,
          tokenSeenAt: noon - 60_000,
          provedBy: '',
        },
      );
      assert.equal(authenticator.stillProved(caller), true);
    }
  });

  it('stands for its token up to reauthenticateAfter, however long it lives', async () => {
    const issued = await issue({ lifeMs: 30 * day });
    const { clock, authenticator, show, reason } = world([issued]);
    const caller = await show(issued.chain);
    assert.equal(caller.credentialEnds, noon - 60_000 + 7 * day);
    clock.set(caller.credentialEnds - 1);
    await show(issued.chain);
    assert.equal(authenticator.stillProved(caller), true);
    clock.advance(1);
    assert.equal(authenticator.stillProved(caller), false);
    assert.equal(await reason(issued.chain), 'reauthentication-due');
  });

  it('counts in its own time alone', async () => {
    const issued = await issue();
    const { clock, reason, show } = world([issued]);
    clock.set(noon - 2 * hour);
    assert.equal(await reason(issued.chain), 'bad-certificate');
    clock.set(noon);
    await show(issued.chain);
    clock.set(noon - 2 * hour);
    assert.equal(await reason(issued.chain), 'bad-certificate');
    clock.set(noon + day + 1);
    assert.equal(await reason(issued.chain), 'bad-certificate');
  });

  it('ends with its root, on open streams and in the cache', async () => {
    const issued = await issue();
    const { anchors, authenticator, show, reason } = world([issued]);
    const caller = await show(issued.chain);
    anchors.now = [theirs.root, ours.root];
    assert.equal(authenticator.stillProved(caller), true);
    anchors.now = [theirs.root];
    assert.equal(authenticator.stillProved(caller), false);
    assert.equal(await reason(issued.chain), 'bad-certificate');
    anchors.now = [];
    assert.equal(await reason(issued.chain), 'bad-certificate');
  });

  it('counts only as long as its issuer may make that identity', async () => {
    const issued = await issue();
    const allowed = { now: true };
    const { authenticator, show, reason } = world([issued], {
      allows: (issuer, id) => allowed.now && issuer === 'kubernetes' && id === web,
    });
    const caller = await show(issued.chain);
    allowed.now = false;
    assert.equal(authenticator.stillProved(caller), false);
    assert.equal(await reason(issued.chain), 'not-allowed');
  });

  it('has no instance where the record has none', async () => {
    const issued = await issue();
    const { show } = world([{ ...issued, facts: { ...issued.facts, instance: '' } }]);
    assert.equal((await show(issued.chain)).instance, undefined);
  });
});

describe('a certificate that proves nothing', () => {
  it("is of somebody else's CA, though it looks the same", async () => {
    const issued = await issue({ ca: theirs });
    const { reason } = world([issued]);
    assert.equal(await reason(issued.chain), 'bad-certificate');
    assert.equal(await reason([...issued.chain, theirs.root]), 'bad-certificate');
  });

  it('comes without its intermediate, or with a chain that is too long', async () => {
    const issued = await issue();
    const { reason } = world([issued]);
    assert.equal(await reason(issued.chain.slice(0, 1)), 'bad-certificate');
    assert.equal(await reason([...issued.chain, ...Array.from({ length: 10 }, () => theirs.intermediate)]), 'bad-certificate');
    assert.equal(await reason([Buffer.from('not a certificate')]), 'bad-certificate');
  });

  it('names another trust domain or the control plane', async () => {
    const foreign = await issue({ id: 'spiffe://example.com/ns/shop/sa/web' });
    const reserved = await issue({ id: 'spiffe://example.org/signet/server' });
    const { reason } = world([foreign, reserved]);
    assert.equal(await reason(foreign.chain), 'bad-certificate');
    assert.equal(await reason(reserved.chain), 'bad-certificate');
  });

  it('is a CA, or has other names', async () => {
    const key = generateKeyPair();
    const request = { ca: ours.ca, spki: key.spki, ipAddresses: [], notBefore: noon - hour, notAfter: noon + hour };
    const { reason } = world([]);
    assert.equal(await reason([ours.intermediate]), 'bad-certificate');
    for (const names of [
      { dnsNames: ['web.example'], uris: [] },
      { dnsNames: [], uris: [web, `${web}2`] },
      { dnsNames: [], uris: ['spiffe://example.org'] },
    ]) {
      assert.equal(await reason([await createServerCertificate({ ...request, ...names }), ours.intermediate]), 'bad-certificate');
    }
  });

  it('was never recorded, or with another name or key', async () => {
    const [issued, other] = await Promise.all([issue(), issue()]);
    assert.equal(await world([]).reason(issued.chain), 'unknown-certificate');
    const renamed = { ...issued, facts: { ...issued.facts, spiffeId: `${web}2` } };
    const rekeyed = { ...issued, facts: { ...issued.facts, spkiSha256: other.facts.spkiSha256 } };
    assert.equal(await world([renamed]).reason(issued.chain), 'unknown-certificate');
    assert.equal(await world([rekeyed]).reason(issued.chain), 'unknown-certificate');
  });

  it("can not be looked up: that is our fault, not the bearer's", async () => {
    const issued = await issue();
    const { show } = world([], { issued: () => Promise.reject(new Error('disk')) });
    assert.equal((await failureOf(() => show(issued.chain))).code, 'IDENTITY_SOURCE_UNAVAILABLE');
  });
});

describe('both ways together', () => {
  it('judge a call with a token by the token alone', async () => {
    const issued = await issue();
    const certificates = world([issued]);
    const tokens = tokenWorld();
    const both = combineAuthenticators({ token: tokens.authenticator, certificate: certificates.authenticator, external: noExternal });
    const authenticate = (token: string | undefined, peerChain: readonly Buffer[]) =>
      both.authenticate(withToken(token, { peerChain }), noHurry);
    const good = signToken(tokens.key, podClaims(tokens.clock.now(), { serviceAccount: 'api' }));

    assert.equal((await authenticate(good, issued.chain)).spiffeId, 'spiffe://example.org/ns/shop/sa/api');
    assert.equal((await authenticate(undefined, issued.chain)).spiffeId, web);
    for (const token of ['', 'bad', good.slice(0, -4)])
      assert.equal((await failureOf(() => authenticate(token, issued.chain))).code, 'UNAUTHENTICATED');
    assert.equal(failureReason(await failureOf(() => authenticate(undefined, []))), 'no-credential');
  });

  it('ask the one that proved a caller whether it still would', async () => {
    const issued = await issue();
    const certificates = world([issued]);
    const tokens = tokenWorld();
    const both = combineAuthenticators({ token: tokens.authenticator, certificate: certificates.authenticator, external: noExternal });
    const byCertificate = await both.authenticate(withToken(undefined, { peerChain: issued.chain }), noHurry);
    const byToken = await both.authenticate(withToken(signToken(tokens.key, podClaims(tokens.clock.now()))), noHurry);
    assert.deepEqual([both.stillProved(byCertificate), both.stillProved(byToken)], [true, true]);
    certificates.anchors.now = [];
    assert.deepEqual([both.stillProved(byCertificate), both.stillProved(byToken)], [false, true]);
    tokens.clock.advance(2 * hour);
    assert.equal(both.stillProved(byToken), false);
  });
});
