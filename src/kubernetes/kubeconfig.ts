import { dirname, resolve } from 'node:path';
import { z } from 'zod';
import { SignetError } from '../base/errors.ts';
import { readSmallFile } from '../base/small-file.ts';
import type { ClusterAccess, ClusterCredential, Material } from './cluster-access.ts';

/**
 * https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/ as far as a server without a person in front of it can use
 * it. Fields that would change who is trusted or who we are, and that we don't obey, are refused and not skipped.
 */
const text = z.string().min(1);
const cluster = z.object({
  server: text,
  'certificate-authority': text.optional(),
  'certificate-authority-data': text.optional(),
  'tls-server-name': text.optional(),
  'insecure-skip-tls-verify': z.boolean().optional(),
  'proxy-url': text.optional(),
});
const user = z.object({
  token: text.optional(),
  tokenFile: text.optional(),
  'client-certificate': text.optional(),
  'client-certificate-data': text.optional(),
  'client-key': text.optional(),
  'client-key-data': text.optional(),
  username: text.optional(),
  exec: z.unknown().optional(),
  'auth-provider': z.unknown().optional(),
  as: text.optional(),
});
const kubeconfig = z.object({
  clusters: z.array(z.object({ name: text, cluster })).max(1000),
  users: z.array(z.object({ name: text, user })).max(1000),
  contexts: z.array(z.object({ name: text, context: z.object({ cluster: text, user: text }) })).max(1000),
  'current-context': z.string().optional(),
});

type Cluster = z.output<typeof cluster>;
type User = z.output<typeof user>;

const longestFile = 1024 * 1024;

/** Throws CONFIG_INVALID: what is wrong, never what the file says. */
export async function readKubeconfig(file: string, context: string | undefined): Promise<ClusterAccess> {
  let content: string;
  try {
    content = (await readSmallFile(file, longestFile)).toString('utf8');
  } catch (error) {
    throw new SignetError('CONFIG_INVALID', `kubeconfig ${file} can't be read`, { cause: error });
  }
  // The YAML parser takes a while to load, and most servers run in a pod.
  const { parse } = await import('yaml');
  let document: unknown;
  try {
    document = parse(content, { maxAliasCount: 0, prettyErrors: false });
  } catch {
    throw new SignetError('CONFIG_INVALID', `kubeconfig ${file} is not YAML`); // The parser's own words may quote a credential.
  }
  return accessFrom(document, file, context);
}

/** Throws CONFIG_INVALID. */
export function accessFrom(document: unknown, file: string, wanted: string | undefined): ClusterAccess {
  const refuse = (what: string): never => {
    throw new SignetError('CONFIG_INVALID', `kubeconfig ${file}: ${what}`);
  };
  const parsed = kubeconfig.safeParse(document);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    return refuse(`${issue?.path.join('.') ?? ''} is missing or of another form than Kubernetes says`);
  }
  const { clusters, users, contexts } = parsed.data;
  const name = wanted ?? parsed.data['current-context'] ?? '';
  const context = contexts.find((entry) => entry.name === name)?.context;
  if (!context) return refuse(name === '' ? 'has no current-context: set `context`' : `has no context "${name}"`);
  const found = {
    cluster: clusters.find((entry) => entry.name === context.cluster)?.cluster ?? refuse(`has no cluster "${context.cluster}"`),
    user: users.find((entry) => entry.name === context.user)?.user ?? refuse(`has no user "${context.user}"`),
  };
  const problem = clusterProblem(found.cluster) ?? userProblem(found.user);
  if (problem !== undefined) return refuse(problem);
  const server = URL.parse(found.cluster.server);
  if (server?.protocol !== 'https:' || server.username !== '' || server.search !== '' || server.hash !== '')
    return refuse('a server is an https:// URL without user, query and fragment');
  const at = (path: string): Material => ({ file: resolve(dirname(file), path) });
  return {
    server,
    serverName: found.cluster['tls-server-name'],
    ca: material(found.cluster['certificate-authority-data'], found.cluster['certificate-authority'], at),
    credential: credentialOf(found.user, at) ?? refuse('its user has no token, tokenFile or client certificate with its key'),
  };
}

function clusterProblem(found: Cluster): string | undefined {
  if (found['insecure-skip-tls-verify']) return 'insecure-skip-tls-verify is refused: whoever answers would decide who everybody is';
  if (found['proxy-url'] !== undefined) return 'proxy-url is not supported';
  return undefined;
}

function userProblem(found: User): string | undefined {
  if (found.exec !== undefined || found['auth-provider'] !== undefined) {
    return 'exec and auth-provider are refused: a server runs no plugins of others with its own rights; give a tokenFile that something else keeps fresh, or a client certificate';
  }
  if (found.username !== undefined) return 'user names with passwords are not supported: give a token or a client certificate';
  if (found.as !== undefined) return 'impersonation (`as`) is not supported: give a credential of its own';
  return undefined;
}

/** As client-go does it: what is inline goes before a file; a tokenFile before a token, since that one is fresh. */
function credentialOf(found: User, at: (path: string) => Material): ClusterCredential | undefined {
  if (found.tokenFile !== undefined) return { kind: 'token', token: at(found.tokenFile) };
  if (found.token !== undefined) return { kind: 'token', token: { text: found.token } };
  const certificate = material(found['client-certificate-data'], found['client-certificate'], at);
  const key = material(found['client-key-data'], found['client-key'], at);
  return certificate && key && { kind: 'certificate', certificate, key };
}

function material(data: string | undefined, file: string | undefined, at: (path: string) => Material): Material | undefined {
  if (data !== undefined) return { text: Buffer.from(data, 'base64').toString('utf8') };
  return file === undefined ? undefined : at(file);
}
