import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { loadConfig } from '../../src/server/config/load.ts';
import type { ConfigInput } from '../../src/server/config/schema.ts';
import { startServer } from '../../src/server/start.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { eventually } from '../support/eventually.ts';
import { failureOf } from '../support/failure.ts';
import { bearer, identityBy, istioRequest, kubeWorld, rbacManifest, refusalOf } from '../support/kube-world.ts';
import type { KubeWorld } from '../support/kube-world.ts';
import { replaceFile } from '../support/temp.ts';
import { ecKey, podClaims, signToken } from '../support/token-forge.ts';
import { wholeFolder, wholeServer } from '../support/whole-server.ts';
import type { WholeServer } from '../support/whole-server.ts';

const webId = 'spiffe://example.org/ns/shop/sa/web';
const refused = 'refused: UNAUTHENTICATED';
const away = 'refused: IDENTITY_SOURCE_UNAVAILABLE';

let world: KubeWorld;
let whole: WholeServer;

function reviewedBy({ kube, kubeconfig }: KubeWorld, cacheFor = '5m'): Partial<ConfigInput> {
  return { identity: { issuers: [{ id: 'cluster', issuer: kube.issuer, tokenReview: { kubeconfig, cacheFor }, allow: ['**'] }] } };
}

/** How many TokenReviews the API server says that it was asked for. */
async function reviewsAsked(): Promise<number> {
  const { body } = await world.kube.call('GET', '/metrics');
  const lines = String(body).match(/^apiserver_request_total\{[^}]*resource="tokenreviews"[^}]*\} \d+/gm) ?? [];
  return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

before(async () => {
  world = await kubeWorld();
  whole = await wholeServer(reviewedBy(world));
});
after(async () => {
  await whole[Symbol.asyncDispose]();
  await world[Symbol.asyncDispose]();
});

describe('a token that the API server reviews', () => {
  it('becomes the identity of its service account, in the instance of its pod', async () => {
    const pod = await world.pod({ name: 'web-a', serviceAccount: 'web' });
    const token = await world.token(pod);
    assert.equal(await identityBy(whole.doors, token), webId);
    const csr = createCsr(generateKeyPair(), []);
    const bound = await whole.doors.workload.call('BindKey', { csr, key_directory: '/tmp' }, bearer(token));
    assert.equal((bound as { readonly instance: string }).instance, `pod:${pod.uid}`);
  });

  it('is good for its audience alone', async () => {
    const pod = await world.pod({ name: 'web-b', serviceAccount: 'web' });
    assert.equal(await identityBy(whole.doors, await world.token(pod, ['somebody-else'])), refused);
    assert.equal(await identityBy(whole.doors, await world.token(pod, [])), refused, "the API server's own audience");
    const forIstio = await world.token(pod, ['istio-ca']);
    assert.equal(await identityBy(whole.doors, forIstio), refused, "istio-ca opens Istio's service");
    await whole.doors.istio.call('CreateCertificate', ...istioRequest({ token: forIstio }));
  });

  it('is refused, opaquely, if somebody else made it, whatever it says', async () => {
    const forged = signToken(ecKey(), { ...podClaims(Date.now()), iss: world.kube.issuer });
    const { code, details, reason } = await refusalOf(whole.doors, forged);
    assert.deepEqual({ code, details, reason }, { code: 16, details: 'authentication failed', reason: 'UNAUTHENTICATED' });
    const ended = signToken(ecKey(), { ...podClaims(Date.now() - 7_200_000), iss: world.kube.issuer });
    assert.equal(await identityBy(whole.doors, ended), refused, 'nobody learns when a token ended that nobody vouched for');
  });

  it('is reviewed once, however many show it at the same time and after', async () => {
    const token = await world.token(await world.pod({ name: 'web-c', serviceAccount: 'web' }));
    const before = await reviewsAsked();
    const ids = await Promise.all(Array.from({ length: 40 }, () => identityBy(whole.doors, token)));
    assert.deepEqual([...new Set(ids)], [webId]);
    assert.equal(await identityBy(whole.doors, token), webId);
    assert.equal((await reviewsAsked()) - before, 1);
  });

  it('opens nothing new once its pod is deleted and the last review is no longer good', async () => {
    await using brief = await wholeServer(reviewedBy(world, '1s'));
    const pod = await world.pod({ name: 'web-d', serviceAccount: 'web' });
    const token = await world.token(pod);
    assert.equal(await identityBy(brief.doors, token), webId);
    await pod.remove();
    await eventually('it is refused', async () => ((await identityBy(brief.doors, token)) === refused ? true : undefined));
  });
});

describe('while the API server does not answer', () => {
  it('new tokens are told to come back, reviewed ones are still good, and it goes on by itself', async () => {
    const known = await world.token(await world.pod({ name: 'web-e', serviceAccount: 'web' }));
    const unknown = await world.token(await world.pod({ name: 'web-f', serviceAccount: 'web' }));
    assert.equal(await identityBy(whole.doors, known), webId);
    await world.kube.stop();
    const told = await refusalOf(whole.doors, unknown);
    assert.deepEqual([told.code, told.reason], [14, 'IDENTITY_SOURCE_UNAVAILABLE']);
    assert.doesNotMatch(told.details, /127\.0\.0\.1|ECONN/);
    assert.equal(await identityBy(whole.doors, known), webId);
    await world.kube.start();
    await eventually('the new token is taken', async () => ((await identityBy(whole.doors, unknown)) === webId ? true : undefined));
  });

  it('Signet starts all the same, and takes tokens when it is there', async () => {
    const token = await world.token(await world.pod({ name: 'web-g', serviceAccount: 'web' }));
    await world.kube.stop();
    await using late = await wholeServer(reviewedBy(world));
    assert.equal(await identityBy(late.doors, token), away);
    await world.kube.start();
    await eventually('the token is taken', async () => ((await identityBy(late.doors, token)) === webId ? true : undefined));
  });
});

describe("Signet's own rights", () => {
  it('that are taken away make tokens wait, not fail; given back, they are taken', async () => {
    const token = await world.token(await world.pod({ name: 'web-h', serviceAccount: 'web' }));
    await world.kube.call('DELETE', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/signet-token-review');
    await eventually('RBAC has noticed', async () => {
      const fresh = await world.token(await world.pod({ name: `web-${Date.now()}`, serviceAccount: 'web' }));
      return (await identityBy(whole.doors, fresh)) === away ? true : undefined;
    });
    assert.equal(await identityBy(whole.doors, token), away);
    await world.kube.apply(await rbacManifest());
    await eventually('the token is taken', async () => ((await identityBy(whole.doors, token)) === webId ? true : undefined));
  });

  it('are proved at the start: without them it does not start, and says what to do', async () => {
    const kubeconfig = await world.kube.kubeconfig({ token: await world.kube.token({ namespace: 'shop', serviceAccount: 'web' }) });
    await using folder = await wholeFolder(reviewedBy({ ...world, kubeconfig }));
    const failure = await failureOf(startServer(await loadConfig({ file: folder.configFile, env: {} }), { dev: false }));
    assert.equal(failure.code, 'CONFIG_INVALID');
    assert.match(failure.message, /issuer "cluster": .*create tokenreviews\.authentication\.k8s\.io.*deploy\/kubernetes\/rbac\.yaml/);
  });

  it('are shown by the token that is on disk now: the kubelet rotates it', async () => {
    const [first, second, third] = await Promise.all(
      ['i', 'j', 'k'].map(async (name) => world.token(await world.pod({ name: `web-${name}`, serviceAccount: 'web' }))),
    );
    assert.ok(first !== undefined && second !== undefined && third !== undefined);
    assert.equal(await identityBy(whole.doors, first), webId);
    await replaceFile(world.tokenFile, 'outdated');
    assert.equal(await identityBy(whole.doors, second), away, 'it is not the bearer who is refused');
    await replaceFile(world.tokenFile, await world.ownToken());
    assert.equal(await identityBy(whole.doors, third), webId);
    assert.equal(await identityBy(whole.doors, second), webId);
  });
});
