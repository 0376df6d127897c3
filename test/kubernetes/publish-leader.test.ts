import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import type { ConfigInput } from '../../src/server/config/schema.ts';
import { startKubeApiServer } from '../support/engines/kube-apiserver.ts';
import { eventually } from '../support/eventually.ts';
import { projectToken } from '../support/kubernetes-caller.ts';
import { foreignCa } from '../support/openssl.ts';
import { pagePermissions } from '../support/page-text.ts';
import { replaceFile, tempFolder } from '../support/temp.ts';
import { serverProcess } from '../support/whole-server-process.ts';
import { wholeFolder } from '../support/whole-server.ts';

describe('two servers of one trust domain', () => {
  it('have one who publishes; when that one is killed, and when it stops, the other goes on', async (t) => {
    await using temp = await tempFolder();
    await using kube = await startKubeApiServer();
    const { kubeconfig } = await projectToken(kube, temp, 'signet', 'signet');
    await kube.apply(await pagePermissions('publish-the-bundle.md'));
    // One root for both, as replicas have one store.
    const root = await foreignCa('Shared');
    await writeFile(temp.file('root.pem'), root.certificate);
    await writeFile(temp.file('root.key'), root.key, { mode: 0o600 });
    const more = temp.file('more.pem');
    await writeFile(more, (await foreignCa('First')).certificate);
    const publishBundle = { kubeconfig, configMap: { name: 'signet-bundle' }, lease: { namespace: 'signet' } };
    const settings: Partial<ConfigInput> = {
      kubernetes: { publishBundle },
      ca: { backends: { shared: { type: 'files', root: temp.file('root.pem'), key: temp.file('root.key') } }, trustedRoots: [more] },
      log: { level: 'info' },
    };

    const start = async () => {
      const folder = await wholeFolder(settings);
      const server = await serverProcess(folder);
      const leads = (): boolean => {
        const said = server.stderr();
        return said.lastIndexOf('"leading"') > said.lastIndexOf('"no longer leading"');
      };
      return { folder, server, leads };
    };
    const holder = async (): Promise<string> => {
      const { body } = await kube.call('GET', '/apis/coordination.k8s.io/v1/namespaces/signet/leases/signet-bundle');
      return (body as { spec?: { holderIdentity?: string } }).spec?.holderIdentity ?? '';
    };
    const published = async (pem: string): Promise<true | undefined> => {
      const { body } = await kube.call('GET', '/api/v1/namespaces/default/configmaps/signet-bundle');
      return (body as { data?: Record<string, string> }).data?.['ca.crt']?.includes(pem.trim()) === true || undefined;
    };

    const [first, second] = [await start(), await start()];
    await eventually('one leads', () => first.leads() || second.leads() || undefined);
    assert.notEqual(first.leads(), second.leads());
    const [leader, other] = first.leads() ? [first, second] : [second, first];
    const before = await holder();

    await leader.server.end('SIGKILL');
    const killed = Date.now();
    const next = (await foreignCa('Second')).certificate;
    await replaceFile(more, next);
    await eventually('the other publishes', () => published(next), 40_000);
    t.diagnostic(`killed: the other published after ${((Date.now() - killed) / 1000).toFixed(1)} s`);
    assert.ok(other.leads());
    assert.notEqual(await holder(), before);
    assert.ok(Date.now() - killed > 5000, 'the lease of one that was killed must run out first');

    // One that stops gives its lease up.
    const third = await start();
    assert.equal(third.leads(), false);
    await other.server.end('SIGTERM');
    const stopped = Date.now();
    const last = (await foreignCa('Third')).certificate;
    await replaceFile(more, last);
    await eventually('the third publishes', () => published(last), 40_000);
    t.diagnostic(`stopped: the third published after ${((Date.now() - stopped) / 1000).toFixed(1)} s`);
    await third.server.end('SIGTERM');
    assert.equal(await holder(), '');
    for (const { server, folder } of [first, second, third]) {
      await server[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    }
  });
});
