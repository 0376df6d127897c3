import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { parse } from 'yaml';
import type { ConfigInput } from '../../src/server/config/schema.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { bearer, identityBy, istioRequest, kubeWorld, refusalOf } from '../support/kube-world.ts';
import type { KubeWorld } from '../support/kube-world.ts';
import { wholeServer } from '../support/whole-server.ts';
import type { WholeServer } from '../support/whole-server.ts';

const names = ['west', 'east'] as const;
type ClusterName = (typeof names)[number];
const idIn = (cluster: ClusterName): string => `spiffe://example.org/${cluster}/ns/shop/sa/web`;
const refused = 'refused: UNAUTHENTICATED';

/** The issuers of the page about several clusters: all but where the clusters are is as it says. */
const onThePage = await (async () => {
  const page = await readFile(new URL('../../docs/how-to/kubernetes-token-review.md', import.meta.url), 'utf8');
  const [block] = /```yaml\n([^`]*)```/.exec(page.slice(page.indexOf('## 3. Several clusters')))?.slice(1) ?? [];
  const { identity } = parse(block ?? '') as Pick<ConfigInput, 'identity'>;
  return identity?.issuers ?? [];
})();

/** Two real API servers, with the same namespace, account and pod in both. */
interface TwoClusters extends AsyncDisposable {
  readonly whole: WholeServer;
  /** A token of shop/web, from this cluster. */
  readonly token: Readonly<Record<ClusterName, string>>;
  /** Of another pod of the same account. */
  another(cluster: ClusterName): Promise<string>;
}

async function twoClusters(issuer?: string): Promise<TwoClusters> {
  const [west, east] = await Promise.all(names.map(() => kubeWorld(issuer === undefined ? {} : { issuer })));
  assert.ok(west && east);
  const settings = (cluster: ClusterName, { kube, kubeconfig }: KubeWorld) => {
    const documented = onThePage.find(({ id }) => id === cluster);
    assert.ok(documented);
    return { ...documented, issuer: kube.issuer, tokenReview: { ...documented.tokenReview, kubeconfig } };
  };
  const config: Partial<ConfigInput> = { identity: { issuers: [settings('west', west), settings('east', east)] } };
  const token = async (world: KubeWorld, name: string): Promise<string> =>
    world.token(await world.pod({ name, serviceAccount: 'web' }), ['signet', 'istio-ca']);
  const tokens = { west: await token(west, 'web-0'), east: await token(east, 'web-0') };
  const whole = await wholeServer(config);
  return {
    whole,
    token: tokens,
    another: (cluster) => token(cluster === 'west' ? west : east, 'web-1'),
    async [Symbol.asyncDispose]() {
      await whole[Symbol.asyncDispose]();
      await Promise.all([west, east].map((world) => world[Symbol.asyncDispose]()));
    },
  };
}

describe('two clusters with the same namespace and account in both', () => {
  let both: TwoClusters;
  before(async () => {
    both = await twoClusters();
  });
  after(() => both[Symbol.asyncDispose]());

  it('are two identities', async () => {
    for (const name of names) {
      assert.equal(await identityBy(both.whole.doors, both.token[name]), idIn(name));
      assert.equal(await identityBy(both.whole.doors, both.token[name], { clusterid: name }), idIn(name));
    }
  });

  it("neither of which can get the other's, by CSR, by SDS, or by naming the other's cluster", async () => {
    const { doors } = both.whole;
    for (const [own, other] of [
      ['west', 'east'],
      ['east', 'west'],
    ] as const) {
      const csr = createCsr(generateKeyPair(), [idIn(other)]);
      const asked = await doors.workload.refused('SignCertificate', { csr }, bearer(both.token[own]));
      assert.ok(['PERMISSION_DENIED', 'INVALID_CSR'].includes(asked.reason ?? ''), JSON.stringify(asked));

      const stream = doors.sds().stream('delta', bearer(both.token[own]));
      stream.send({ resource_names_subscribe: [idIn(other)] });
      const { removed, secrets } = await stream.next();
      assert.deepEqual([removed, secrets], [[idIn(other)], []]);
      stream.cancel();

      assert.equal(await identityBy(doors, both.token[own], { clusterid: other }), refused);
      const istio = await doors.istio.refused('CreateCertificate', ...istioRequest({ token: both.token[own], cluster: other }));
      assert.equal(istio.code, 16);
    }
  });

  it('and a cluster that nobody configured is refused, opaquely', async () => {
    const { code, details } = await refusalOf(both.whole.doors, both.token.west, { clusterid: 'Kubernetes' });
    assert.deepEqual({ code, details }, { code: 16, details: 'authentication failed' });
    const istio = await both.whole.doors.istio.refused(
      'CreateCertificate',
      ...istioRequest({ token: both.token.west, cluster: 'Kubernetes' }),
    );
    assert.equal(istio.code, 16);
  });
});

describe('two clusters whose tokens have the same iss, as most have,', () => {
  let both: TwoClusters;
  before(async () => {
    both = await twoClusters('https://kubernetes.default.svc.cluster.local');
  });
  after(() => both[Symbol.asyncDispose]());

  it('are told apart by what the client calls its cluster, and a token is good in its own alone', async () => {
    assert.equal(await identityBy(both.whole.doors, both.token.west, { clusterid: 'west' }), idIn('west'));
    assert.equal(await identityBy(both.whole.doors, both.token.east, { clusterid: 'east' }), idIn('east'));
    assert.equal(await identityBy(both.whole.doors, both.token.west, { clusterid: 'east' }), refused);
    assert.equal(await identityBy(both.whole.doors, both.token.east, { clusterid: 'west' }), refused);
  });

  it('and without that they are refused: no token is shown to a cluster that it may not be of', async () => {
    const fresh = await both.another('west');
    assert.equal(await identityBy(both.whole.doors, fresh), refused);
    assert.equal(await identityBy(both.whole.doors, fresh, { clusterid: 'west' }), idIn('west'));
  });
});
