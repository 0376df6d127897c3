import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'yaml';
import { eventually, Hopeless } from './eventually.ts';
import { tlsIdentity } from './mtls-request.ts';
import type { TlsIdentity } from './mtls-request.ts';
import { pageSnippets } from './page-snippets.ts';
import { mintToken, serverCa, signetVerb, startSignet } from './signet.ts';
import type { RunningSignet } from './signet.ts';
import { tempFolder } from './temp.ts';
import { workloadClient } from './workload-client.ts';

/** The blocks of a language in a section of the page that people read. */
export function snippets(section: string, language: string): Promise<string[]> {
  return pageSnippets('files-for-other-servers.md', section, language);
}

/** As `snippets`, the `files` setting of its first block of YAML, with what is particular to this host put in. */
export async function filesSetting(section: string, replace: (text: string) => string): Promise<FilesSetting> {
  const [yaml = ''] = await snippets(section, 'yaml');
  const { workloads } = parse(replace(yaml)) as { readonly workloads: readonly { readonly files: FilesSetting }[] };
  const files = workloads[0]?.files;
  if (!files) throw new Error(`no files under ${section}`);
  return files;
}

export interface FilesSetting {
  readonly folder: string;
  readonly group?: string;
  readonly command?: readonly string[];
}

/** A server with short-lived certificates and an agent on the same host that writes them to files. */
export interface FilesHost extends AsyncDisposable {
  readonly signet: RunningSignet;
  /** Others may pass through it. */
  readonly folder: string;
  /** Starts the agent for these workloads, by the names of their service accounts. */
  agent(files: Readonly<Record<string, FilesSetting>>): Promise<void>;
  agentOutput(): string;
  /** The agent's page of metrics. */
  metrics(): Promise<string>;
  /** A client of the same trust domain, with a certificate that outlives the test. */
  readonly client: TlsIdentity;
  readonly anchors: string;
}

export const filesIdOf = (serviceAccount: string): string => `spiffe://cluster.local/ns/shop/sa/${serviceAccount}`;

export async function filesHost(leafTtl: string): Promise<FilesHost> {
  const temp = await tempFolder();
  await chmod(temp.path, 0o755);
  const config = temp.file('signet.yaml');
  await writeFile(config, 'policy: { rules: [{ match: "/ns/load/**", tier: critical }] }\n');
  const signet = await startSignet({ data: temp.file('data'), leafTtl, args: ['--config', config] });
  const api = workloadClient({
    address: signet.grpc,
    serverCa: await serverCa(signet.data),
    token: await mintToken(signet.data, { namespace: 'load', serviceAccount: 'client' }),
  });
  const credential = await api.credential();
  api.close();
  let agent: ReturnType<typeof signetVerb> | undefined;
  return {
    signet,
    folder: temp.path,
    client: tlsIdentity(credential, credential.anchors),
    anchors: credential.anchors,
    async agent(files) {
      const own = temp.file('agent');
      await mkdir(own, { mode: 0o700 });
      const workloads = await Promise.all(
        Object.entries(files).map(async ([name, setting]) => {
          const tokenFile = join(own, `${name}.token`);
          await writeFile(tokenFile, await mintToken(signet.data, { namespace: 'shop', serviceAccount: name }), { mode: 0o600 });
          return { name, tokenFile, socket: join(own, name, 's'), files: setting };
        }),
      );
      const settings = {
        trustDomain: 'cluster.local',
        servers: [signet.grpc],
        serverTrust: { caFile: join(signet.data, 'server-ca.pem') },
        workloads,
        listen: { http: '127.0.0.1:0' },
      };
      await writeFile(join(own, 'agent.yaml'), JSON.stringify(settings));
      const started = signetVerb(['agent', '--config', join(own, 'agent.yaml')]);
      agent = started;
      for (const { folder } of Object.values(files)) {
        await eventually(`files in ${folder}`, async () => readFile(join(folder, 'tls.crt'), 'utf8')).catch((error: unknown) => {
          throw new Hopeless(started.output().slice(-3000), { cause: error });
        });
      }
    },
    agentOutput: () => agent?.output() ?? '',
    async metrics() {
      const address = await eventually('the ready line', () => /^ready .* http=(\S+)$/m.exec(agent?.output() ?? '')?.[1]);
      return (await fetch(`http://${address}/metrics`, { signal: AbortSignal.timeout(10_000) })).text();
    },
    async [Symbol.asyncDispose]() {
      await agent?.[Symbol.asyncDispose]();
      await signet[Symbol.asyncDispose]();
      await temp[Symbol.asyncDispose]();
    },
  };
}
