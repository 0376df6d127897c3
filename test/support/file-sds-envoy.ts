import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { renderEnvoyFiles } from '../../src/cli/envoy-config/bootstrap.ts';
import type { EnvoySettings } from '../../src/cli/envoy-config/settings.ts';
import { startEnvoy, type RunningEnvoy } from './envoy.ts';
import { eventually } from './eventually.ts';
import { tempFolder, replaceFile } from './temp.ts';

/** Either kind of secret that Envoy's listener takes here, as text. */
export type SecretText = { readonly chain: string; readonly key: string | { readonly file: string } } | { readonly anchors: string };

/**
 * An Envoy with our own listener configuration that takes its secrets from files instead of a server: Envoy judges them by
 * the same code, so it is the judge of what a server may send, and the stand-in for a server that sends what ours never would.
 */
export interface FileSdsEnvoy extends AsyncDisposable {
  readonly envoy: RunningEnvoy;
  /** Puts a secret in place and waits for Envoy's verdict on it. */
  put(name: 'default' | 'ROOTCA', secret: SecretText): Promise<'taken' | 'refused'>;
}

export async function startFileSdsEnvoy(
  first: { readonly identity: SecretText; readonly anchors: string },
  options: { readonly version?: string; readonly trustDomain: string },
): Promise<FileSdsEnvoy> {
  const folder = await tempFolder();
  const write = async (name: string, secret: SecretText): Promise<void> =>
    replaceFile(join(folder.path, `${name}.yaml`), secretYaml(name, secret));
  await write('default', first.identity);
  await write('ROOTCA', { anchors: first.anchors });
  const rendered = renderEnvoyFiles({
    node: { id: 'judge', cluster: 'test' },
    trustDomain: options.trustDomain,
    auth: { kind: 'google-grpc-token', tokenFile: '/nowhere' },
    api: 'sotw',
    server: { host: '127.0.0.1', port: 1 },
    serverCaFile: '/nowhere',
    admin: { host: '127.0.0.1', port: 0 },
    inbound: { listen: { host: '127.0.0.1', port: 0 }, app: undefined, callers: [], alpn: ['h2', 'http/1.1'] },
    upstreams: [],
    envoyVersion: options.version,
  } satisfies EnvoySettings);
  const bootstrap = stringify(fromFiles(parse(rendered.bootstrap), folder.path));
  const envoy = await startEnvoy({ bootstrap, ...(options.version ? { version: options.version } : {}) });
  return {
    envoy,
    async put(name, secret) {
      const verdicts = async (): Promise<[number, number]> => [
        await envoy.stat(`sds.${name}.update_success`),
        await envoy.stat(`sds.${name}.update_rejected`),
      ];
      const [taken, refused] = await verdicts();
      await write(name, secret);
      return eventually(`a verdict on ${name}`, async () => {
        const [nowTaken, nowRefused] = await verdicts();
        if (nowRefused > refused) return 'refused';
        return nowTaken > taken ? 'taken' : undefined;
      });
    },
    async [Symbol.asyncDispose]() {
      await envoy[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

/** The same configuration with every secret named by a file. */
function fromFiles(node: unknown, folder: string): unknown {
  if (Array.isArray(node)) return node.map((item) => fromFiles(item, folder));
  if (node === null || typeof node !== 'object') return node;
  if ('sds_config' in node && 'name' in node) {
    return {
      name: node.name,
      sds_config: { resource_api_version: 'V3', path_config_source: { path: join(folder, `${String(node.name)}.yaml`) } },
    };
  }
  return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, fromFiles(value, folder)]));
}

function secretYaml(name: string, secret: SecretText): string {
  const body =
    'anchors' in secret
      ? { validation_context: { trusted_ca: { inline_string: secret.anchors } } }
      : {
          tls_certificate: {
            certificate_chain: { inline_string: secret.chain },
            private_key: typeof secret.key === 'string' ? { inline_string: secret.key } : { filename: secret.key.file },
          },
        };
  // The version must move, or Envoy takes the file as nothing new.
  return JSON.stringify({
    version_info: String(Date.now()),
    resources: [{ '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret', name, ...body }],
  });
}
