import { z } from 'zod';
import { day, duration, judged, path } from '../../config/fields.ts';
import { anchorFields } from '../anchor-settings.ts';

/** A path below /v1/ of Vault's API: what could change which endpoint is meant is refused, not escaped. */
function pathProblem(text: string): string | undefined {
  if (text.length > 200) return 'is longer than 200 characters';
  if (!/^[A-Za-z0-9._-]+(?:\/[A-Za-z0-9._-]+)*$/.test(text)) return 'must be of A-Z, a-z, 0-9, ".", "_", "-", its parts divided by "/"';
  return text.split('/').some((part) => part === '.' || part === '..') ? 'must not have "." or ".." as a part' : undefined;
}

export const apiPath = () => judged(pathProblem);
export const apiName = () => z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/, 'must be 1 to 128 of A-Z, a-z, 0-9, ".", "_", "-"');

function addressProblem(text: string): string | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== 'https:' && url?.protocol !== 'http:') return 'must be an https:// URL';
  if (url.username !== '' || url.password !== '') return 'must not have a user or a password';
  if (url.search !== '' || url.hash !== '' || url.pathname !== '/') return 'must be scheme, host and port alone';
  // What goes over the wire are tokens.
  if (url.protocol === 'http:' && !['127.0.0.1', '[::1]', 'localhost'].includes(url.hostname))
    return 'must be https://; http:// is for a proxy on this host alone (127.0.0.1, ::1, localhost)';
  return undefined;
}

const mount = (usual: string) => apiPath().prefault(usual).describe('Where this login method is mounted, below `auth/`.');

const serviceAccountToken = '/var/run/secrets/kubernetes.io/serviceaccount/token';

export const loginSettings = z
  .discriminatedUnion('type', [
    z.strictObject({
      type: z.literal('token'),
      tokenFile: path().describe('File of the token. Read again when the token can no longer be renewed: Vault Agent may write it.'),
    }),
    z.strictObject({
      type: z.literal('approle'),
      mount: mount('approle'),
      roleIdFile: path().describe('File of the role id.'),
      secretIdFile: path().describe('File of the secret id. Read again at each login.'),
    }),
    z.strictObject({
      type: z.literal('kubernetes'),
      mount: mount('kubernetes'),
      role: apiName().describe('The role of the login method.'),
      tokenFile: path().prefault(serviceAccountToken).describe('File of the service-account token. Read again at each login.'),
    }),
    z.strictObject({
      type: z.literal('jwt'),
      mount: mount('jwt'),
      role: apiName().describe('The role of the login method.'),
      tokenFile: path().describe('File of a JWT. Read again at each login.'),
    }),
    z.strictObject({
      type: z.literal('certificate'),
      mount: mount('cert'),
      role: apiName().optional().describe('The certificate role; left out, Vault looks for one that matches.'),
      certificate: path().describe('PEM file of the client certificate, with its intermediates. Read again at each login.'),
      key: path().describe('PEM file of its key.'),
    }),
  ])
  .describe('How Signet logs in.');
export type LoginSettings = z.infer<typeof loginSettings>;

/** What everything that talks to Vault or OpenBao needs. */
export const connectionFields = {
  address: judged(addressProblem).describe('`https://HOST:PORT` of Vault or OpenBao, or of the load balancer before it.'),
  caFile: path().optional().describe('PEM file of the CAs that its certificate may be from. Default: those of the system.'),
  namespace: apiPath().optional().describe('The namespace in which the mounts are.'),
  login: loginSettings,
};

const issuerFields = {
  mount: apiPath().prefault('pki').describe('Where the PKI engine is mounted.'),
  issuer: apiName().prefault('default').describe('The issuer of that mount that signs: its name, its id, or `default`.'),
  rootFile: path()
    .optional()
    .describe('PEM file of the root, if Vault has only an intermediate. Default: the self-signed end of the chain that Vault names.'),
  poll: duration({ min: 1000, max: day }).prefault('30s').describe('How often Vault is asked whether the issuer is still the same.'),
  settle: duration({ min: 1, max: 30 * day })
    .prefault('1m')
    .describe('How long a new root is in the trust bundle before certificates are signed under it.'),
  ...anchorFields('follow'),
};

export const vaultSettings = z.strictObject({
  type: z.literal('vault'),
  ...connectionFields,
  ...issuerFields,
  role: apiName().describe('The role of the PKI engine that certificates are signed by.'),
});

/** Vault above an intermediate of ours: nothing is signed by a role. */
export const vaultUpstreamSettings = z.strictObject({ type: z.literal('vault'), ...connectionFields, ...issuerFields });

export type ConnectionSettings = Pick<z.infer<typeof vaultSettings>, 'address' | 'login'> & {
  readonly caFile?: string | undefined;
  readonly namespace?: string | undefined;
};
export type VaultSettings = z.infer<typeof vaultSettings>;
export type VaultUpstreamSettings = z.infer<typeof vaultUpstreamSettings>;
