import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { renderEnvoyFiles } from '../../src/cli/envoy-config/bootstrap.ts';
import type { EnvoyApi, EnvoyAuth, EnvoySettings } from '../../src/cli/envoy-config/settings.ts';

const etc = '/etc/signet';

export const exampleAuths = {
  'google-grpc-token': { kind: 'google-grpc-token', tokenFile: `${etc}/token/token` },
  'envoy-grpc-token': { kind: 'envoy-grpc-token', tokenFile: `${etc}/token/token`, tokenSecretFile: `${etc}/token-secret.yaml` },
  'client-certificate': {
    kind: 'client-certificate',
    certificateDirectory: `${etc}/bootstrap`,
    certificateSecretFile: `${etc}/certificate-secret.yaml`,
  },
  agent: { kind: 'agent', socket: '/run/signet/web/agent.sock' },
} as const satisfies Record<EnvoyAuth['kind'], EnvoyAuth>;

export const exampleSettings: Omit<EnvoySettings, 'auth' | 'api' | 'envoyVersion'> = {
  node: { id: 'web-0', cluster: 'web' },
  trustDomain: 'cluster.local',
  server: { host: '127.0.0.1', port: 8443 },
  serverCaFile: `${etc}/server-ca.pem`,
  admin: { host: '127.0.0.1', port: 9901 },
  inbound: { listen: { host: '127.0.0.1', port: 10443 }, app: { host: '127.0.0.1', port: 8000 }, callers: [], alpn: ['h2', 'http/1.1'] },
  upstreams: [
    {
      name: 'payments',
      listen: { host: '127.0.0.1', port: 10001 },
      address: { host: '127.0.0.1', port: 11443 },
      peer: 'spiffe://cluster.local/ns/shop/sa/payments',
      protocol: 'h2',
      connectionPerRequest: false,
    },
  ],
};

export interface Example {
  /** The file's name in envoy-examples/. */
  readonly name: string;
  readonly auth: EnvoyAuth['kind'];
  readonly api: EnvoyApi;
  readonly envoyVersion: string | undefined;
}

const apis: readonly EnvoyApi[] = ['sotw', 'delta'];
const auths = Object.keys(exampleAuths) as EnvoyAuth['kind'][];

/** The credential injector has two forms, for Envoys before and after 1.37. */
export const examples: readonly Example[] = [
  ...auths.flatMap((auth) => apis.map((api): Example => ({ name: `${auth}-${api}.yaml`, auth, api, envoyVersion: undefined }))),
  ...apis.map((api): Example => ({ name: `envoy-grpc-token-${api}-envoy-1.36.yaml`, auth: 'envoy-grpc-token', api, envoyVersion: '1.36' })),
];

export const examplesFolder = fileURLToPath(new URL('../../envoy-examples/', import.meta.url));

/** Every file of envoy-examples/ that is generated, by name. */
export function renderExamples(): ReadonlyMap<string, string> {
  const files = new Map<string, string>();
  for (const example of examples) {
    const { api, envoyVersion } = example;
    const rendered = renderEnvoyFiles({ ...exampleSettings, auth: exampleAuths[example.auth], api, envoyVersion });
    files.set(example.name, rendered.bootstrap);
    if (rendered.secret) files.set(rendered.secret.path.slice(etc.length + 1), rendered.secret.text);
  }
  return files;
}

// `npx node test/support/envoy-examples.ts` writes the folder anew after a change of the generator.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, text] of renderExamples()) writeFileSync(`${examplesFolder}${name}`, text);
}
