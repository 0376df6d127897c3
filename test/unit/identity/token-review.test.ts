import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { failureReason } from '../../../src/identity/authentication-failure.ts';
import { checkIssuerSettings } from '../../../src/identity/issuer-settings.ts';
import type { ReviewedIssuerSettings } from '../../../src/identity/issuer-settings.ts';
import { compileTemplate } from '../../../src/identity/path-template.ts';
import { createTokenAuthenticator } from '../../../src/identity/token-authenticator.ts';
import { readReview } from '../../../src/identity/token-review.ts';
import { parseSpiffeId, parseTrustDomain } from '../../../src/spiffe/id.ts';
import { fakeReviewer } from '../../support/fake-reviewer.ts';
import type { FakeReviewer, ReviewStatus } from '../../support/fake-reviewer.ts';
import { failureOf } from '../../support/failure.ts';
import { silentLog } from '../../support/silent-log.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';
import { ecKey, podClaims, signToken } from '../../support/token-forge.ts';
import { kubernetesIssuer, noHurry, withToken } from '../../support/token-world.ts';

const podUid = '11111111-2222-3333-4444-555555555555';
const yes: ReviewStatus = {
  authenticated: true,
  audiences: ['signet'],
  user: {
    username: 'system:serviceaccount:shop:web',
    uid: 'aaaa',
    extra: {
      'authentication.kubernetes.io/pod-name': ['web-0'],
      'authentication.kubernetes.io/pod-uid': [podUid],
      'authentication.kubernetes.io/node-name': ['node-1'],
      'authentication.kubernetes.io/credential-id': ['JTI=1'],
    },
  },
};
const webId = 'spiffe://example.org/ns/shop/sa/web';

function reviewedIssuer(fields: Partial<ReviewedIssuerSettings> = {}): ReviewedIssuerSettings {
  const { keys: _keys, ...rest } = kubernetesIssuer();
  return { ...rest, review: { cacheForMs: 60_000 }, ...fields };
}

function world(issuers: readonly ReviewedIssuerSettings[] = [reviewedIssuer()], status: ReviewStatus | undefined = yes) {
  const clock = simulatedClock(Date.now());
  const reviewers = new Map<string, FakeReviewer>(issuers.map(({ id }) => [id, fakeReviewer(status)]));
  const authenticator = createTokenAuthenticator({
    issuers,
    reviewers,
    trustDomain: parseTrustDomain('example.org'),
    maxTokenLifetimeMs: 86_400_000,
    clock,
    log: silentLog,
  });
  const reviewer = reviewers.get(issuers[0]?.id ?? '') ?? fakeReviewer();
  const key = ecKey();
  const token = (claims: Readonly<Record<string, unknown>> = {}): string => signToken(key, { ...podClaims(clock.now()), ...claims });
  return { clock, reviewer, reviewers, authenticator, token };
}

async function reasonFor(work: () => unknown): Promise<string> {
  const failure = await failureOf(work);
  assert.equal(failure.message.includes('web'), false, 'the bearer is told nothing');
  return failureReason(failure) ?? failure.code;
}

describe("an API server's review", () => {
  const no: readonly (readonly [what: string, status: ReviewStatus, reason: string])[] = [
    ['not authenticated', { ...yes, authenticated: false, error: 'invalid bearer token' }, 'review-refused'],
    ['silent on that', { audiences: ['signet'] }, 'review-refused'],
    ['no audience: an authenticator that knows of none', { ...yes, audiences: undefined }, 'wrong-audience'],
    ['an empty list of them', { ...yes, audiences: [] }, 'wrong-audience'],
    ['other audiences only', { ...yes, audiences: ['https://kubernetes.default.svc'] }, 'wrong-audience'],
    ['a person', { ...yes, user: { username: 'alice' } }, 'claim'],
    ['a node', { ...yes, user: { username: 'system:node:node-1' } }, 'claim'],
    ['nobody', { authenticated: true, audiences: ['signet'] }, 'claim'],
    ['a name with one part too many', { ...yes, user: { username: 'system:serviceaccount:shop:web:x' } }, 'claim'],
  ];
  for (const [what, status, reason] of no) {
    it(`is a no if it says ${what}`, async () => {
      assert.equal(await reasonFor(() => readReview(status, ['signet', 'istio-ca'])), reason);
    });
  }

  it('is a yes to the audiences that are in it and were asked for, and has pod and node', () => {
    assert.deepEqual(readReview({ ...yes, audiences: ['signet', 'other'] }, ['signet', 'istio-ca']), {
      subject: 'system:serviceaccount:shop:web',
      audiences: ['signet'],
      claims: {
        sub: 'system:serviceaccount:shop:web',
        'kubernetes.io': {
          namespace: 'shop',
          serviceaccount: { name: 'web', uid: 'aaaa' },
          pod: { name: 'web-0', uid: podUid },
          node: { name: 'node-1' },
        },
      },
    });
  });
});

describe('a reviewed token', () => {
  it('proves identity, instance and pod, until it ends itself', async () => {
    const { authenticator, token, clock } = world();
    const caller = await authenticator.authenticate(withToken(token()), noHurry);
    assert.deepEqual([caller.spiffeId, caller.instance, caller.pod?.name], [webId, `pod:${podUid}`, 'web-0']);
    assert.equal(Math.round((caller.credentialEnds - clock.now()) / 60_000), 60);
    assert.ok(authenticator.stillProved(caller));
    clock.advance(3_600_000);
    assert.ok(!authenticator.stillProved(caller));
  });

  it('is reviewed for all audiences of its issuer, and again only when the review has grown old', async () => {
    const { authenticator, token, clock, reviewer } = world();
    const shown = token();
    for (let i = 0; i < 3; i++) await authenticator.authenticate(withToken(shown), noHurry);
    assert.deepEqual(reviewer.asked, [{ token: shown, audiences: ['signet', 'istio-ca'] }]);
    clock.advance(60_001);
    reviewer.status = { ...yes, authenticated: false, error: 'pod is gone' };
    assert.equal(await reasonFor(() => authenticator.authenticate(withToken(shown), noHurry)), 'review-refused');
  });

  it('is never good for longer than it says itself', async () => {
    const { authenticator, token, clock } = world();
    const brief = token({ exp: Math.floor(clock.now() / 1000) + 10 });
    await authenticator.authenticate(withToken(brief), noHurry);
    clock.advance(11_000);
    assert.equal(await reasonFor(() => authenticator.authenticate(withToken(brief), noHurry)), 'expired');
  });

  it('is reviewed once for all who show it meanwhile; one of them may go away', async () => {
    const { authenticator, token, reviewer } = world();
    const release = Promise.withResolvers<undefined>();
    reviewer.held = release.promise;
    const shown = token();
    const gone = new AbortController();
    const first = failureOf(Promise.resolve(authenticator.authenticate(withToken(shown), gone.signal)));
    const others = [1, 2, 3].map(() => Promise.resolve(authenticator.authenticate(withToken(shown), noHurry)));
    gone.abort();
    assert.equal((await first).code, 'CANCELLED');
    release.resolve(undefined);
    assert.deepEqual(new Set((await Promise.all(others)).map(({ spiffeId }) => spiffeId)), new Set([webId]));
    assert.equal(reviewer.asked.length, 1);
  });

  it('is not refused while nobody can say, and a no is not remembered', async () => {
    const { authenticator, token, reviewer } = world();
    const shown = token();
    reviewer.status = undefined;
    assert.equal((await failureOf(async () => authenticator.authenticate(withToken(shown), noHurry))).code, 'IDENTITY_SOURCE_UNAVAILABLE');
    reviewer.status = { authenticated: false };
    assert.equal(await reasonFor(() => authenticator.authenticate(withToken(shown), noHurry)), 'review-refused');
    reviewer.status = yes;
    assert.equal((await authenticator.authenticate(withToken(shown), noHurry)).spiffeId, webId);
  });

  const unasked: readonly (readonly [what: string, claims: Readonly<Record<string, unknown>>, reason: string])[] = [
    ['has ended', { exp: 1_000_000, iat: 999_000 }, 'expired'],
    ['lives too long', { exp: Math.floor(Date.now() / 1000) + 90_000 }, 'too-long-lived'],
    ['is for others', { aud: ['somebody-else'] }, 'wrong-audience'],
    ['is of another issuer', { iss: 'https://elsewhere.example' }, 'unknown-issuer'],
  ];
  for (const [what, claims, reason] of unasked) {
    it(`that says of itself that it ${what} is not even sent`, async () => {
      const { authenticator, token, reviewer } = world();
      assert.equal(await reasonFor(() => authenticator.authenticate(withToken(token(claims)), noHurry)), reason);
      assert.equal(reviewer.asked.length, 0);
    });
  }

  it('whose review is of somebody else is refused', async () => {
    const { authenticator, token } = world();
    assert.equal(
      await reasonFor(() => authenticator.authenticate(withToken(token({ sub: 'system:serviceaccount:shop:api' })), noHurry)),
      'claim',
    );
  });

  it('takes its identity from the review, whatever its own claims say', async () => {
    const { authenticator, token } = world();
    const lying = token({ 'kubernetes.io': { namespace: 'kube-system', serviceaccount: { name: 'admin' } } });
    assert.equal((await authenticator.authenticate(withToken(lying), noHurry)).spiffeId, webId);
  });
});

describe('clusters', () => {
  const west = reviewedIssuer({
    id: 'west',
    cluster: 'west',
    path: '/west/ns/{/kubernetes.io/namespace}/sa/{/kubernetes.io/serviceaccount/name}',
  });
  const east = { ...west, id: 'east', cluster: 'east', path: west.path.replace('west', 'east') };

  it('of one iss are told apart by clusterid; a token is shown to one of them alone', async () => {
    const { authenticator, token, reviewers } = world([west, east]);
    const shown = token();
    assert.equal(await reasonFor(() => authenticator.authenticate(withToken(shown), noHurry)), 'ambiguous-issuer');
    assert.equal(await reasonFor(() => authenticator.authenticate(withToken(shown, { cluster: 'north' }), noHurry)), 'unknown-cluster');
    assert.equal((await authenticator.authenticate(withToken(shown, { cluster: 'east' }), noHurry)).issuer, 'east');
    assert.deepEqual([reviewers.get('west')?.asked.length, reviewers.get('east')?.asked.length], [0, 1]);
    assert.equal(
      await reasonFor(() => authenticator.authenticate(withToken(shown, { cluster: 'west' }), noHurry)),
      'unknown-cluster',
      'not from the cache either',
    );
  });

  it('mean nothing until one is configured: Istio sends one always', async () => {
    const { authenticator, token } = world();
    assert.equal((await authenticator.authenticate(withToken(token(), { cluster: 'Kubernetes' }), noHurry)).spiffeId, webId);
  });

  it('are required where the iss does not tell, and reviews are bounded', () => {
    const problems = (...issuers: readonly ReviewedIssuerSettings[]) =>
      checkIssuerSettings(issuers).map(({ issuer, field }) => `${issuer}.${field}`);
    assert.deepEqual(problems(west, east), []);
    const { cluster: _cluster, ...unnamed } = east;
    assert.deepEqual(problems(west, unnamed), ['east.cluster']);
    assert.deepEqual(problems(west, { ...east, cluster: 'west' }), ['east.cluster']);
    assert.deepEqual(problems({ ...west, cluster: 'a b' }), ['west.cluster']);
    assert.deepEqual(problems({ ...west, review: { cacheForMs: 300_001 } }), ['west.review']);
  });
});

describe('from an identity back to its service account', () => {
  const segment = fc.stringMatching(/^[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?$/);

  it('goes the way that the template went, and from no other path', () => {
    const template = compileTemplate('/west/ns/{/kubernetes.io/namespace}/sa/{/kubernetes.io/serviceaccount/name}');
    fc.assert(
      fc.property(segment, segment, (namespace, name) => {
        const path = template.fill({ 'kubernetes.io': { namespace, serviceaccount: { name } } });
        assert.deepEqual(
          [...(template.read(path) ?? [])],
          [
            ['/kubernetes.io/namespace', namespace],
            ['/kubernetes.io/serviceaccount/name', name],
          ],
        );
        for (const other of [`${path}/x`, path.replace('/west', '/east'), path.slice(1), `/west${path}`])
          assert.equal(template.read(other), undefined);
      }),
    );
    assert.equal(compileTemplate('/ns/{*/a}').read('/ns/x'), undefined, 'a claim of several segments');
  });

  it('is refused where the path says something else besides', () => {
    const accountBy = (path: string, id: string) =>
      world([reviewedIssuer({ path })]).authenticator.accountOf('kubernetes', parseSpiffeId(id));
    const usual = '/ns/{/kubernetes.io/namespace}/sa/{/kubernetes.io/serviceaccount/name}';
    assert.deepEqual(accountBy(usual, webId), { namespace: 'shop', name: 'web' });
    assert.equal(accountBy(usual, 'spiffe://example.org/ns/shop/sa'), undefined);
    assert.equal(accountBy('/sa/{/kubernetes.io/serviceaccount/name}', 'spiffe://example.org/sa/web'), undefined);
    assert.equal(accountBy(`${usual}/{/kubernetes.io/pod/name}`, `${webId}/web-0`), undefined);
  });
});
