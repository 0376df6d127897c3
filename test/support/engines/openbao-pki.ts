import { z } from 'zod';
import type { OpenBao } from './openbao.ts';

/** A root in a mount of its own, and the mount that signs, with an intermediate below it: as an operator sets it up. */
export interface BaoPki {
  readonly mount: string;
  readonly rootMount: string;
  /** A new root, and a new intermediate under it, which is the default from then on. */
  rotate(): Promise<void>;
}

const generated = z.object({ csr: z.string() });
const signedIntermediate = z.object({ certificate: z.string(), ca_chain: z.array(z.string()) });
const imported = z.object({ mapping: z.record(z.string(), z.string()) });
const made = z.object({ issuer_id: z.string() });

/** The role of docs/how-to/ca-vault.md. */
export const signingRole = {
  allowed_uri_sans: ['spiffe://example.org/*'],
  allow_ip_sans: false,
  allow_localhost: false,
  require_cn: false,
  use_csr_common_name: false,
  use_csr_sans: false,
  key_type: 'any',
  key_usage: ['DigitalSignature'],
  server_flag: true,
  client_flag: true,
  ttl: '24h',
  not_after_bound: 'ttl-limited',
  not_before_duration: '1m',
  no_store: true,
};

export interface BaoPkiWish {
  readonly trustDomain: string;
  readonly mount?: string;
  readonly role?: object;
  /** Whether the signing mount is told of the root, too. */
  readonly withRoot?: boolean;
  readonly namespace?: string;
}

export async function baoPki(bao: OpenBao, wish: BaoPkiWish): Promise<BaoPki> {
  const { trustDomain, mount = 'pki', withRoot = true, namespace } = wish;
  const rootMount = `${mount}-root`;
  const as = namespace === undefined ? {} : { namespace };
  const post = (path: string, body: object) => bao.api('POST', path, body, as);
  let generation = 0;

  async function makeIssuer(): Promise<void> {
    generation++;
    const names = { organization: 'Signet tests', exclude_cn_from_sans: true, key_type: 'ec', key_bits: 256 };
    const root = made.parse(
      await post(`${rootMount}/root/${generation === 1 ? 'generate' : 'rotate'}/internal`, {
        ...names,
        common_name: `Root ${String(generation)}`,
        ttl: '3000h',
      }),
    );
    const { csr } = generated.parse(
      await post(`${mount}/intermediate/generate/internal`, { ...names, common_name: `Intermediate ${String(generation)}` }),
    );
    const { certificate, ca_chain: chain } = signedIntermediate.parse(
      await post(`${rootMount}/issuer/${root.issuer_id}/sign-intermediate`, {
        csr,
        common_name: `Intermediate ${String(generation)}`,
        organization: 'Signet tests',
        exclude_cn_from_sans: true,
        uri_sans: `spiffe://${trustDomain}`,
        ttl: '2000h',
      }),
    );
    const { mapping } = imported.parse(
      await post(`${mount}/intermediate/set-signed`, { certificate: withRoot ? chain.join('\n') : certificate }),
    );
    // The one that came with its key is the intermediate.
    const issuer = Object.entries(mapping).find(([, key]) => key !== '')?.[0];
    await post(`${mount}/config/issuers`, { default: issuer });
  }

  for (const path of [mount, rootMount]) await post(`sys/mounts/${path}`, { type: 'pki', config: { max_lease_ttl: '4000h' } });
  await makeIssuer();
  await post(`${mount}/roles/signet`, wish.role ?? signingRole);
  return { mount, rootMount, rotate: makeIssuer };
}

const roleId = z.object({ role_id: z.string() });
const secretId = z.object({ secret_id: z.string() });

/** An AppRole that may do what `policy` (HCL) says. */
export async function baoAppRole(
  bao: OpenBao,
  wish: { readonly name?: string; readonly policy: string; readonly namespace?: string; readonly settings?: object },
): Promise<{ readonly roleId: string; readonly secretId: string }> {
  const { name = 'signet', policy, namespace, settings = {} } = wish;
  const as = namespace === undefined ? {} : { namespace };
  const isThere = Object.hasOwn(await bao.api('GET', 'sys/auth', undefined, as), 'approle/');
  if (!isThere) await bao.api('POST', 'sys/auth/approle', { type: 'approle' }, as);
  await bao.api('POST', `sys/policies/acl/${name}`, { policy }, as);
  await bao.api('POST', `auth/approle/role/${name}`, { token_policies: [name], ...settings }, as);
  return {
    roleId: roleId.parse(await bao.api('GET', `auth/approle/role/${name}/role-id`, undefined, as)).role_id,
    secretId: secretId.parse(await bao.api('POST', `auth/approle/role/${name}/secret-id`, {}, as)).secret_id,
  };
}
