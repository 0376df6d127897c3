import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { failureReason } from '../../../src/identity/authentication-failure.ts';
import { createExternalCertificateAuthenticator } from '../../../src/identity/external-certificate.ts';
import type { ExternalCertificateSource } from '../../../src/identity/external-certificate.ts';
import type { Caller } from '../../../src/identity/caller.ts';
import { parseTrustDomain } from '../../../src/spiffe/id.ts';
import { certificatesFromPem } from '../../../src/x509/pem.ts';
import { failureOf } from '../../support/failure.ts';
import { foreignCa, foreignClient, foreignIntermediate } from '../../support/openssl.ts';
import type { PemPair } from '../../support/openssl.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';
import { noHurry, withToken } from '../../support/token-world.ts';

const trustDomain = parseTrustDomain('example.org');
const minute = 60_000;
let root: PemPair;
let intermediate: PemPair;
let stranger: PemPair;
before(async () => {
  [root, stranger] = await Promise.all([foreignCa('Machines'), foreignCa('Strangers')]);
  intermediate = await foreignIntermediate(root);
});

const der = (pair: PemPair): Buffer => certificatesFromPem(pair.certificate)[0] ?? Buffer.alloc(0);

/** One source that names machines by their common name, whose CAs a test can change. */
function world(settings: Partial<ExternalCertificateSource> = {}) {
  const clock = simulatedClock(Date.now());
  const cas = { anchors: [der(root)] as readonly Buffer[], intermediates: [der(intermediate)] as readonly Buffer[] };
  const ca = { current: () => ({ ...cas }), onChange: () => () => undefined };
  const source: ExternalCertificateSource = { id: 'machines', path: '/vm/{/subject/CN}', allow: ['/vm/*'], deny: [], ca, ...settings };
  const authenticator = createExternalCertificateAuthenticator({ sources: [source], trustDomain, clock });
  const show = async (leaf: PemPair, hint?: string): Promise<Caller> =>
    authenticator.authenticate({ ...withToken(undefined, { peerChain: [der(leaf)] }), instanceHint: hint }, noHurry);
  const reason = async (leaf: PemPair): Promise<string | undefined> => {
    const failure = await failureOf(show(leaf));
    assert.deepEqual([failure.code, failure.message], ['UNAUTHENTICATED', 'authentication failed']);
    return failureReason(failure);
  };
  return { clock, cas, authenticator, show, reason };
}

describe('a client certificate of an external CA', () => {
  it('becomes the identity that the rule makes of it, whether the root or an intermediate signed it', async () => {
    const { show } = world();
    for (const ca of [root, intermediate]) {
      const caller = await show(await foreignClient(ca, { subject: '/O=Shop/CN=db-1' }), 'boot-7');
      assert.deepEqual(
        [caller.spiffeId, caller.issuer, caller.instance, caller.authenticatedBy],
        ['spiffe://example.org/vm/db-1', 'machines', 'hint:boot-7', 'external-certificate'],
      );
      assert.match(caller.subject, /CN=db-1/);
    }
  });

  it('may be named by its one DNS name, its one URI, its serial; the instance by another claim', async () => {
    const leaf = await foreignClient(root, { subject: '/O=Shop/OU=east/CN=x', names: 'DNS:db-1.shop.example,URI:urn:host:7' });
    const named = async (path: string, instance?: string): Promise<readonly [string, string | undefined]> => {
      const caller = await world({ path, instance, allow: ['**'] }).show(leaf);
      return [caller.spiffeId, caller.instance];
    };
    assert.deepEqual(await named('/vm/{/dns}', '/subject/OU'), ['spiffe://example.org/vm/db-1.shop.example', 'claim:east']);
    assert.match((await named('/vm/{/serial}'))[0], /\/vm\/[0-9a-f]{32}$/);
    assert.match((await named('/vm/{/spki}'))[0], /\/vm\/[0-9a-f]{64}$/);
  });

  it('is refused when a name could be chosen: two of a kind, or one that is no path segment', async () => {
    const twoNames = await foreignClient(root, { subject: '/CN=x', names: 'DNS:a.example,DNS:b.example' });
    assert.equal(await world({ path: '/vm/{/dns}' }).reason(twoNames), 'claim');
    assert.equal(await world().reason(await foreignClient(root, { subject: '/CN=db-1/CN=db-2' })), 'claim');
    assert.equal(await world().reason(await foreignClient(root, { subject: '/CN=a\\/b' })), 'claim');
    assert.equal(await world().reason(await foreignClient(root, { subject: '/O=Shop' })), 'claim');
  });

  it('is refused outside of what the source may make', async () => {
    const leaf = await foreignClient(root, { subject: '/CN=db-1' });
    assert.equal(await world({ allow: [] }).reason(leaf), 'not-allowed');
    assert.equal(await world({ deny: ['/vm/db-*'] }).reason(leaf), 'not-allowed');
    assert.equal(await world({ path: '/signet/{/subject/CN}', allow: ['**'] }).reason(leaf), 'not-allowed');
  });

  it('is refused of another CA, ended, not begun, meant for servers, or a CA itself', async () => {
    const { reason, show } = world();
    const now = Date.now();
    assert.equal(await reason(await foreignClient(stranger, { subject: '/CN=db-1' })), 'bad-certificate');
    const ended = { notBefore: now - 10 * minute, notAfter: now - minute };
    assert.equal(await reason(await foreignClient(root, { subject: '/CN=db-1', ...ended })), 'bad-certificate');
    assert.equal(await reason(await foreignClient(root, { subject: '/CN=db-1', notBefore: now + 10 * minute })), 'bad-certificate');
    assert.equal(await reason(await foreignClient(root, { subject: '/CN=db-1', purpose: 'serverAuth' })), 'bad-certificate');
    assert.equal(await reason(intermediate), 'bad-certificate');
    await show(await foreignClient(root, { subject: '/CN=db-1', purpose: '' }));
  });

  it('stands until it ends, its CA is taken out, or its source may no longer make the identity', async () => {
    const { show, authenticator, clock, cas } = world();
    const caller = await show(await foreignClient(root, { subject: '/CN=db-1', notAfter: Date.now() + 10 * minute }));
    assert.equal(authenticator.stillProved(caller), true);
    assert.equal(authenticator.allows('machines', caller.spiffeId), true);
    assert.equal(authenticator.allows('others', caller.spiffeId), false);
    cas.anchors = [der(stranger)];
    assert.equal(authenticator.stillProved(caller), false);
    cas.anchors = [der(root)];
    clock.advance(11 * minute);
    assert.equal(authenticator.stillProved(caller), false);
    assert.equal(world({ allow: ['/vm/web-*'] }).authenticator.stillProved(caller), false);
  });

  it('of a CA that two sources have is refused: which rule holds must not be a matter of order', async () => {
    const leaf = await foreignClient(root, { subject: '/CN=db-1' });
    const ca = { current: () => ({ anchors: [der(root)], intermediates: [] }), onChange: () => () => undefined };
    const both = createExternalCertificateAuthenticator({
      sources: [
        { id: 'one', path: '/one/{/subject/CN}', allow: ['**'], deny: [], ca },
        { id: 'two', path: '/two/{/subject/CN}', allow: ['**'], deny: [], ca },
      ],
      trustDomain,
      clock: simulatedClock(Date.now()),
    });
    const failure = await failureOf(async () => both.authenticate(withToken(undefined, { peerChain: [der(leaf)] }), noHurry));
    assert.equal(failureReason(failure), 'ambiguous-issuer');
  });

  it('is told from one of ours by its issuer alone', async () => {
    const { authenticator } = world();
    assert.equal(authenticator.claims(der(await foreignClient(intermediate, { subject: '/CN=x' }))), true);
    assert.equal(authenticator.claims(der(await foreignClient(stranger, { subject: '/CN=x' }))), false);
    assert.equal(authenticator.claims(Buffer.from('no certificate')), false);
  });
});
