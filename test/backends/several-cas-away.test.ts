/** Several CAs at once: policy says which signs for whom, one stands in for another, and one that is away harms only its own. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { parse } from 'yaml';
import { eventually } from '../support/eventually.ts';
import { describeLoad, startLoad } from '../support/load.ts';
import { startMesh } from '../support/mesh.ts';
import type { Mesh } from '../support/mesh.ts';
import { foreignCa } from '../support/openssl.ts';
import { askAdmin, signetDone } from '../support/signet.ts';
import { tempFolder } from '../support/temp.ts';

interface PageConfig {
  readonly ca: object;
  readonly policy: { readonly rules: readonly object[] };
}

/** The configuration of docs/how-to/several-cas.md, with files that are here, and lives that a test can wait for. */
async function fromThePage(files: string): Promise<Readonly<Record<string, unknown>>> {
  const yaml = /```yaml\n([^]*?)```/.exec(await readFile('docs/how-to/several-cas.md', 'utf8'))?.[1] ?? '';
  const { ca, policy } = parse(yaml.replaceAll('/etc/signet/', `${files}/`).replace(/^ *tier: .*\n/m, '')) as PageConfig;
  return { ca, policy: { rules: [...policy.rules, { match: '/ns/load/**', tier: 'critical' }] } };
}

/** Which backend signed the newest certificate of an identity. */
async function signer(mesh: Mesh, spiffeId: string): Promise<string> {
  return askAdmin(mesh.signet.data, async (admin) => {
    for await (const [newest] of admin.certificates({ spiffeId, instance: '', unexpired: false, limit: 1 })) return newest?.authority ?? '';
    return '';
  });
}

describe('several CA backends', () => {
  it('each signs for its own; away for more than a life, one has a stand-in, and the other harms nobody else', async (t) => {
    await using files = await tempFolder();
    for (const name of ['payments', 'shop']) {
      const ca = await foreignCa(`${name} root`);
      await writeFile(files.file(`${name}.pem`), ca.certificate);
      await writeFile(files.file(`${name}.key`), ca.key, { mode: 0o600 });
    }
    await using mesh = await startMesh({ leafTtl: '20s', outages: true, config: await fromThePage(files.path) });
    const [payments, shop, other] = [
      await mesh.workload({ serviceAccount: 'payments', api: 'delta' }),
      await mesh.workload({ serviceAccount: 'web', api: 'sotw' }),
      await mesh.workload({ serviceAccount: 'tools', api: 'delta', auth: 'envoy-grpc-token' }),
    ];
    const workloads = { payments, shop, builtin: other };
    const loads = [payments, shop, other].map((workload) => startLoad(workload.target('h1'), () => mesh.client()));
    const [paymentsLoad, shopLoad, otherLoad] = loads;
    assert.ok(paymentsLoad && shopLoad && otherLoad);
    await Promise.all(loads.map((load) => load.sawSerials(2)));
    for (const [name, { id }] of Object.entries(workloads)) assert.equal(await signer(mesh, id), name);
    const { anchors } = await askAdmin(mesh.signet.data, (admin) => admin.status());
    assert.equal(anchors.length, 3, 'the roots of all are trusted all the time');

    // `shop` falls back on the built-in CA; `payments` on nobody.
    const [last] = await payments.envoy.identities();
    assert.ok(last);
    for (const name of ['payments', 'shop']) await mesh.signet.authority('fails', name);
    await sleep(45_000);
    assert.equal(await signer(mesh, shop.id), 'builtin');
    const ready = await (await fetch(`http://${mesh.signet.http}/readyz`)).text();
    assert.equal(ready, 'ready\n', 'the default backend is well');
    const metrics = await (await fetch(`http://${mesh.signet.http}/metrics`)).text();
    assert.match(metrics, /^signet_authority_circuit_state\{authority="payments",state="(?:open|half-open)"\} 1$/m);
    assert.match(metrics, /^signet_authority_circuit_state\{authority="builtin",state="closed"\} 1$/m);
    assert.match(metrics, /^signet_renewals_overdue 1$/m);
    const { authorities } = await askAdmin(mesh.signet.data, (admin) => admin.status());
    assert.deepEqual(
      authorities.map(({ name, canSign }) => [name, canSign]),
      [
        ['payments', false],
        ['shop', false],
        ['builtin', true],
      ],
    );
    assert.match(authorities[0]?.detail ?? '', /^no signature for .* \(circuit open\): the CA is away$/);

    const seen = shopLoad.serials.length;
    for (const name of ['payments', 'shop']) await mesh.signet.authority('works', name);
    const returned = Date.now();
    await eventually('the first takes over again', async () => ((await signer(mesh, shop.id)) === 'shop' ? true : undefined), 60_000, 500);
    await shopLoad.sawSerials(seen + 1);
    await sleep(5000);
    const [paymentsReport, ...reports] = await Promise.all(loads.map((load) => load.stop()));
    for (const report of reports) {
      t.diagnostic(describeLoad(report));
      assert.equal(report.failed, 0, describeLoad(report));
    }
    assert.ok(paymentsReport);
    t.diagnostic(describeLoad(paymentsReport));
    assert.ok(paymentsReport.lastFailureAt !== undefined && paymentsReport.lastFailureAt <= returned + 5000);
    // The operator's view, once the load is over: a process of Node each is much for a busy machine.
    const listed = await signetDone(['certs', 'list', '--data', mesh.signet.data, '--identity', shop.id, '--json']);
    const certificates = JSON.parse(listed) as readonly { readonly serial: string; readonly authority: string }[];
    assert.deepEqual(new Set(certificates.map(({ authority }) => authority)), new Set(['shop', 'builtin']));
    const elsewhere = certificates.find(({ authority }) => authority === 'builtin')?.serial ?? '';
    assert.match(await signetDone(['certs', 'show', elsewhere, '--data', mesh.signet.data]), /^Signed by: +builtin, key /m);
    const log = await mesh.signet.log();
    assert.match(log, /"authority":"shop".*its circuit is open/);
    assert.match(log, /"authority":"shop".*"the CA backend is back"/);
    assert.match(log, new RegExp(`"spiffeId":"${shop.id}".*"authority":"builtin".*"certificate issued"`));
  });
});
