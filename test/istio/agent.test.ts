/** istio-agent's own secret cache and SDS server between a real Envoy and the real server: nothing fails while it renews. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parse, stringify } from 'yaml';
import { renderEnvoyFiles } from '../../src/cli/envoy-config/bootstrap.ts';
import { startEnvoy } from '../support/envoy.ts';
import { eventually } from '../support/eventually.ts';
import { istioClient, startIstioAgent } from '../support/istio-client.ts';
import { describeLoad, startLoad } from '../support/load.ts';
import { idOf, startMesh, trustDomain } from '../support/mesh.ts';
import { assertOnRecord } from '../support/rotation-story.ts';
import { mintToken } from '../support/signet.ts';

/** Our own listener with every secret from a unix socket, as istio-agent's bootstrap has it. */
function bootstrapFor(socket: string): string {
  const { bootstrap } = renderEnvoyFiles({
    node: { id: 'web-0', cluster: 'test' },
    trustDomain,
    auth: { kind: 'google-grpc-token', tokenFile: '/nowhere' },
    api: 'sotw',
    server: { host: '127.0.0.1', port: 1 },
    serverCaFile: '/nowhere',
    admin: { host: '127.0.0.1', port: 0 },
    inbound: { listen: { host: '127.0.0.1', port: 0 }, app: undefined, callers: [], alpn: ['h2', 'http/1.1'] },
    upstreams: [],
    envoyVersion: undefined,
  });
  const config = fromAgent(parse(bootstrap)) as { static_resources: { clusters?: object[] } };
  const address = { pipe: { path: socket } };
  config.static_resources.clusters = [
    ...(config.static_resources.clusters ?? []),
    {
      name: 'istio-agent',
      type: 'STATIC',
      connect_timeout: '1s',
      typed_extension_protocol_options: {
        'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
          '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
          explicit_http_config: { http2_protocol_options: {} },
        },
      },
      load_assignment: { cluster_name: 'istio-agent', endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }] },
    },
  ];
  return stringify(config);
}

function fromAgent(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(fromAgent);
  if (node === null || typeof node !== 'object') return node;
  if ('sds_config' in node && 'name' in node) {
    const grpc_services = [{ envoy_grpc: { cluster_name: 'istio-agent' } }];
    const api_config_source = { api_type: 'GRPC', transport_api_version: 'V3', grpc_services };
    return { name: node.name, sds_config: { resource_api_version: 'V3', api_config_source } };
  }
  return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, fromAgent(value)]));
}

describe('istio-agent', () => {
  it('keeps an Envoy in certificates by four renewals, the server killed and restarted meanwhile: 0 failed', async (t) => {
    await istioClient();
    await using mesh = await startMesh({ leafTtl: '20s' });
    const token = join(mesh.folder, 'istio-token');
    await writeFile(token, await mintToken(mesh.signet.data, { namespace: 'shop', serviceAccount: 'web', audience: 'istio-ca' }));
    await using agent = await startIstioAgent(join(mesh.folder, 'pod'), {
      address: mesh.signet.grpc,
      roots: join(mesh.signet.data, 'server-ca.pem'),
      'trust-domain': trustDomain,
      namespace: 'shop',
      account: 'web',
      ttl: '20s',
      token,
    });
    await using envoy = await startEnvoy({ bootstrap: bootstrapFor(agent.socket) });
    await envoy.ready();
    const port = await envoy.port('inbound');
    await eventually('the first certificate', async () => ((await envoy.stat('sds.default.update_success')) > 0 ? true : undefined));
    const load = startLoad({ port, peer: idOf('web'), http: 'h1' }, () => mesh.client());
    await load.sawSerials(3, 90_000);
    await mesh.restart('SIGKILL', 500);
    await load.sawSerials(5, 90_000);
    const report = await load.stop();
    t.diagnostic(describeLoad(report));
    assert.equal(report.failed, 0, `${describeLoad(report)}\n${agent.log().slice(-3000)}`);
    await assertOnRecord(mesh, report.serials);
  });
});
