import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createImpersonation } from '../../../src/api/impersonation.ts';
import type { ImpersonationDeps } from '../../../src/api/impersonation.ts';
import { SignetError } from '../../../src/base/errors.ts';
import type { Caller } from '../../../src/identity/caller.ts';
import { parseSpiffeId, parseTrustDomain } from '../../../src/spiffe/id.ts';
import type { AuditEntry } from '../../../src/store/store.ts';
import { failureOf } from '../../support/failure.ts';
import { fakePodsOnNode } from '../../support/fake-pods-on-node.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';

const never = new AbortController().signal;
const web = 'spiffe://test.example/ns/shop/sa/web';
const api = 'spiffe://test.example/ns/shop/sa/api';
const clock = simulatedClock();

const ztunnel: Caller = {
  issuer: 'k8s',
  subject: 'system:serviceaccount:istio-system:ztunnel',
  spiffeId: parseSpiffeId('spiffe://test.example/ns/istio-system/sa/ztunnel'),
  instance: 'pod:zt-1',
  authenticatedBy: 'token',
  credentialEnds: clock.now() + 3_600_000,
  tokenSeenAt: clock.now(),
  provedBy: 'token k8s x',
  pod: { namespace: 'istio-system', name: 'ztunnel-abc', uid: 'zt-1' },
};

function world(changes: Partial<ImpersonationDeps> = {}) {
  const pods = fakePodsOnNode('zt-1', [web]);
  const entries: AuditEntry[] = [];
  const impersonation = createImpersonation({
    trustDomain: parseTrustDomain('test.example'),
    nodeAccounts: () => new Set(['/ns/istio-system/sa/ztunnel']),
    podsOf: (issuer) => (issuer === 'k8s' ? pods : undefined),
    mayMake: (issuer, id) => issuer === 'k8s' && !id.includes('/ns/other-cluster/'),
    allowed: () => undefined,
    append: (entry) => {
      entries.push(entry);
      return Promise.resolve();
    },
    clock,
    ...changes,
  });
  return { impersonation, pods, entries };
}

describe('a trusted node proxy', () => {
  it('becomes, for one certificate, the pod that is proved to be on its node', async () => {
    const { impersonation, pods, entries } = world();
    const as = await impersonation.as(ztunnel, web, never);
    assert.equal(as.spiffeId, web);
    assert.equal(as.instance, 'pod:zt-1', 'recorded with who holds it');
    assert.equal(as.tokenSeenAt, 0, 'the certificate alone never renews');
    assert.equal(as.pod, undefined, 'whoever is impersonated impersonates nobody');
    assert.deepEqual(pods.asked, [{ caller: ztunnel.pod, identity: web }]);
    await impersonation.audit(ztunnel, as.spiffeId, 'abcd');
    const [entry] = entries;
    assert.equal(entry?.actor, ztunnel.spiffeId);
    assert.equal(entry.subject, web);
    assert.match(entry.detail, /abcd.*istio-system\/ztunnel-abc/);
  });
});

describe('impersonation is refused, opaquely and with a reason for the log,', () => {
  const cases: readonly {
    readonly what: string;
    readonly why: RegExp;
    readonly caller?: Partial<Caller>;
    readonly asked?: string;
    readonly deps?: Partial<ImpersonationDeps>;
    readonly asksNode?: boolean;
  }[] = [
    { what: 'to accounts that are not trusted', why: /trustedNodeAccounts/, caller: { spiffeId: parseSpiffeId(api) } },
    {
      what: 'to an account of that name in a longer path',
      why: /trustedNodeAccounts/,
      caller: { spiffeId: parseSpiffeId('spiffe://test.example/ns/istio-system/sa/ztunnel/x') },
    },
    { what: 'by default', why: /trustedNodeAccounts/, deps: { nodeAccounts: () => new Set() } },
    { what: 'without something that knows the pods of a node', why: /tokenReview nor pods/, deps: { podsOf: () => undefined } },
    { what: 'for a pod that is not on the node', why: /no such pod runs there/, asked: api, asksNode: true },
    {
      what: 'to a node proxy whose pod is gone',
      why: /another uid/,
      caller: { pod: { namespace: 'istio-system', name: 'ztunnel-abc', uid: 'zt-0' } },
      asksNode: true,
    },
    { what: 'to a token that names no pod', why: /names no pod/, caller: { pod: undefined } },
    { what: 'to a certificate', why: /certificate/, caller: { authenticatedBy: 'certificate' } },
    { what: 'for another trust domain', why: /trust domain/, asked: 'spiffe://other.example/ns/shop/sa/web' },
    {
      what: 'for what is no SPIFFE ID',
      why: /no SPIFFE ID/,
      asked: 'spiffe://test.example/ns/shop/sa/web,spiffe://test.example/ns/a/sa/b',
    },
    { what: "for another issuer's identities", why: /issuer/, asked: 'spiffe://test.example/ns/other-cluster/sa/web' },
  ];
  for (const { what, why, caller = {}, asked = web, deps = {}, asksNode = false } of cases) {
    it(what, async () => {
      const { impersonation, pods } = world(deps);
      const failure = await failureOf(impersonation.as({ ...ztunnel, ...caller }, asked, never));
      assert.equal(failure.code, 'UNAUTHENTICATED');
      assert.equal(failure.message, 'authentication failed');
      assert.match(String(failure.cause), why);
      assert.equal(pods.asked.length, asksNode ? 1 : 0);
    });
  }
});

describe('a node proxy', () => {
  it('that an operator stopped gets nothing for others either', async () => {
    const { impersonation } = world({
      allowed: () => {
        throw new SignetError('IDENTITY_DENIED', 'this identity has been stopped by an operator');
      },
    });
    assert.equal((await failureOf(impersonation.as(ztunnel, web, never))).code, 'IDENTITY_DENIED');
  });

  it('is told to come back while the cluster can not be asked; why stays in the log', async () => {
    const { impersonation, pods } = world();
    pods.conduct = 'away';
    const failure = await failureOf(impersonation.as(ztunnel, web, never));
    assert.equal(failure.code, 'IDENTITY_SOURCE_UNAVAILABLE');
    assert.equal(failure.retryAfterMs, 1000);
    assert.doesNotMatch(failure.message, /10\.0\.0\.9/);
    assert.match(String(failure.cause), /10\.0\.0\.9/);
  });

  it('that goes away is not waited for', async () => {
    const { impersonation, pods } = world();
    pods.conduct = 'hang';
    const gone = new AbortController();
    const asking = failureOf(impersonation.as(ztunnel, web, gone.signal));
    gone.abort(new SignetError('CANCELLED', 'the client went away'));
    assert.equal((await asking).code, 'CANCELLED');
  });
});
