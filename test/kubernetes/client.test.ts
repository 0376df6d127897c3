import assert from 'node:assert/strict';
import { copyFile, writeFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { z } from 'zod';
import type { ApiAnswer } from '../../src/kubernetes/answer.ts';
import { createKubernetesClient } from '../../src/kubernetes/client.ts';
import type { ApiCall, KubernetesClient } from '../../src/kubernetes/client.ts';
import { inClusterAccess } from '../../src/kubernetes/in-cluster.ts';
import { openClusterAccess } from '../../src/kubernetes/settings.ts';
import { listAndWatch } from '../../src/kubernetes/watch.ts';
import { startKubeApiServer } from '../support/engines/kube-apiserver.ts';
import type { KubeApiServer, KubeCredential } from '../support/engines/kube-apiserver.ts';
import { eventually } from '../support/eventually.ts';
import { failureOf } from '../support/failure.ts';
import { foreignCa } from '../support/openssl.ts';
import { replaceFile, tempFolder } from '../support/temp.ts';

const noHurry = new AbortController().signal;
const named = z.object({
  metadata: z.object({ name: z.string(), resourceVersion: z.string() }),
  data: z.record(z.string(), z.string()).optional(),
});
const configMaps = '/api/v1/namespaces/default/configmaps';

let kube: KubeApiServer;
before(async () => {
  kube = await startKubeApiServer();
});
after(() => kube[Symbol.asyncDispose]());

async function clientOf(credential: KubeCredential): Promise<KubernetesClient> {
  return createKubernetesClient(await openClusterAccess({ kubeconfig: await kube.kubeconfig(credential) }));
}

function get(name: string): ApiCall<z.output<typeof named>> {
  return { method: 'GET', path: `${configMaps}/${name}`, answer: named };
}

function create(name: string): ApiCall<z.output<typeof named>> {
  return { method: 'POST', path: configMaps, body: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name } }, answer: named };
}

/** The kind of its failure, or `ok`. */
function kindOf(answer: ApiAnswer<unknown>): string {
  return answer.ok ? 'ok' : answer.failure.kind;
}

describe('one call', () => {
  it('says what became of it: done, not there, there already, not allowed, not known', async () => {
    const admin = await clientOf({ token: kube.adminToken });
    assert.equal(kindOf(await admin.ask(create('one'), noHurry)), 'ok');
    assert.equal(kindOf(await admin.ask(create('one'), noHurry)), 'conflict');
    assert.equal(kindOf(await admin.ask(get('two'), noHurry)), 'not-found');
    assert.equal(kindOf(await (await clientOf({ token: 'nobody' })).ask(get('one'), noHurry)), 'unauthenticated');
    const stranger = await (await clientOf({ user: 'stranger', group: 'strangers' })).ask(get('one'), noHurry);
    assert.ok(!stranger.ok && stranger.failure.kind === 'forbidden');
    assert.match(stranger.failure.message, /User "stranger" cannot get resource "configmaps"/);
  });

  it('shows a client certificate where the kubeconfig has one', async () => {
    assert.equal(kindOf(await (await clientOf({ user: 'root', group: 'system:masters' })).ask(get('none'), noHurry)), 'not-found');
  });

  it('reads its token anew each time: a rotated one needs no restart, and neither does a broken one that is mended', async () => {
    await using folder = await tempFolder();
    await writeFile(folder.file('token'), kube.adminToken);
    const client = await clientOf({ tokenFile: folder.file('token') });
    assert.equal(kindOf(await client.ask(get('none'), noHurry)), 'not-found');
    await replaceFile(folder.file('token'), 'outdated');
    assert.equal(kindOf(await client.ask(get('none'), noHurry)), 'unauthenticated');
    await replaceFile(folder.file('token'), 'not one token\n');
    const broken = await client.ask(get('none'), noHurry);
    assert.ok(!broken.ok && broken.failure.kind === 'away');
    assert.ok(broken.failure.message.includes(`${folder.file('token')} holds no token`), broken.failure.message);
    await replaceFile(folder.file('token'), `${kube.adminToken}\n`);
    assert.equal(kindOf(await client.ask(get('none'), noHurry)), 'not-found');
  });

  it('works in a pod by what the kubelet puts there', async () => {
    await using folder = await tempFolder();
    await copyFile(kube.caFile, folder.file('ca.crt'));
    await writeFile(folder.file('token'), kube.adminToken);
    const env = { KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: new URL(kube.address).port };
    const client = createKubernetesClient(inClusterAccess(env, folder.path));
    assert.equal(kindOf(await client.ask(get('none'), noHurry)), 'not-found');
  });

  it('tells nothing to a server of another CA, and follows that file when it changes', async () => {
    await using folder = await tempFolder();
    await writeFile(folder.file('ca.crt'), (await foreignCa('Somebody else')).certificate);
    await writeFile(folder.file('token'), kube.adminToken);
    const env = { KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: new URL(kube.address).port };
    const client = createKubernetesClient(inClusterAccess(env, folder.path));
    const refused = await client.ask(get('none'), noHurry);
    assert.ok(!refused.ok && refused.failure.kind === 'away');
    assert.match(refused.failure.message, /CERT|SIGNATURE/);
    await copyFile(kube.caFile, folder.file('ca.crt'));
    assert.equal(kindOf(await client.ask(get('none'), noHurry)), 'not-found');
  });

  it('takes no answer that is longer than it should be, or of another form', async () => {
    const admin = await clientOf({ token: kube.adminToken });
    const openapi = { method: 'GET', path: '/openapi/v2', answer: z.unknown() } as const;
    assert.equal(kindOf(await admin.ask({ ...openapi, longestAnswer: 1000 }, noHurry)), 'malformed');
    assert.equal(kindOf(await admin.ask({ ...openapi, answer: named, longestAnswer: 100_000_000 }, noHurry)), 'malformed');
  });

  it('rejects when it is cancelled, and at once', async () => {
    const admin = await clientOf({ token: kube.adminToken });
    const cancelled = new AbortController();
    const asked = admin.ask(get('none'), cancelled.signal);
    cancelled.abort();
    assert.equal((await failureOf(asked)).code, 'CANCELLED');
  });
});

describe('list and watch', () => {
  it('tells of what is there, of every change, and loses nothing while the API server is away', async () => {
    const admin = await clientOf({ token: kube.adminToken });
    await kube.call('POST', configMaps, { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'first', labels: { watched: 'yes' } } });
    const told: string[] = [];
    const failures: string[] = [];
    const stop = new AbortController();
    const watching = (async () => {
      const list = { path: configMaps, query: { labelSelector: 'watched=yes' }, object: named };
      const options = {
        random: () => 0.5,
        retry: { baseMs: 50, maxMs: 200 },
        onFailure: (failed: { kind: string }) => failures.push(failed.kind),
      };
      for await (const event of listAndWatch(admin, list, options, stop.signal)) {
        if (event.kind === 'listed') told.push(`listed ${event.objects.map((object) => object.metadata.name).join()}`);
        else told.push(`${event.kind} ${event.object.metadata.name} ${event.object.data?.['v'] ?? ''}`.trimEnd());
      }
    })();
    const heard = (what: string): Promise<true> => eventually(what, () => (told.includes(what) ? true : undefined));
    const put = (name: string, v: string) =>
      kube.apply(`{apiVersion: v1, kind: ConfigMap, metadata: {name: ${name}, labels: {watched: "yes"}}, data: {v: "${v}"}}`);
    await heard('listed first');
    await put('second', '1');
    await heard('set second 1');
    await put('second', '2');
    await heard('set second 2');
    await kube.call('DELETE', `${configMaps}/first`);
    await heard('deleted first');

    await kube.stop();
    await eventually('the watch notices', () => (failures.includes('away') ? true : undefined));
    assert.equal(kindOf(await admin.ask(get('second'), noHurry)), 'away');
    await kube.start();
    await put('second', '3');
    await heard('set second 3');
    assert.equal(told.filter((line) => line === 'set second 3').length, 1);

    stop.abort();
    assert.equal((await failureOf(watching)).code, 'CANCELLED');
  });
});
