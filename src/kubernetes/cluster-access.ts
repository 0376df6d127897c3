import { SignetError } from '../base/errors.ts';
import { readSmallFile } from '../base/small-file.ts';

/** Text that was given, or a file that is read again for every request: the kubelet rotates tokens, operators certificates. */
export type Material = { readonly text: string } | { readonly file: string };

export type ClusterCredential =
  | { readonly kind: 'token'; readonly token: Material }
  | { readonly kind: 'certificate'; readonly certificate: Material; readonly key: Material };

/** Where a cluster's API server is, what proves that it is it, and what proves us. */
export interface ClusterAccess {
  /** https, without a path at its end. */
  readonly server: URL;
  /** The name in its certificate, where it isn't the URL's. */
  readonly serverName: string | undefined;
  /** PEM of the CAs; undefined: the system's. */
  readonly ca: Material | undefined;
  readonly credential: ClusterCredential;
}

/** What one request is made with. */
export interface Shown {
  readonly ca: string | undefined;
  readonly certificate: string | undefined;
  readonly key: string | undefined;
  readonly token: string | undefined;
}

const longestMaterial = 1024 * 1024;

/** Reads it all anew. Throws INVALID_ARGUMENT naming the file, and nothing of what is in it. */
export async function readShown({ ca, credential }: ClusterAccess): Promise<Shown> {
  const [caPem, certificate, key, token] = await Promise.all([
    ca && read(ca),
    credential.kind === 'certificate' ? read(credential.certificate) : undefined,
    credential.kind === 'certificate' ? read(credential.key) : undefined,
    credential.kind === 'token' ? read(credential.token) : undefined,
  ]);
  return { ca: caPem, certificate, key, token: token === undefined ? undefined : bearer(token, credential) };
}

async function read(material: Material): Promise<string> {
  if ('text' in material) return material.text;
  try {
    return (await readSmallFile(material.file, longestMaterial)).toString('utf8');
  } catch (error) {
    throw new SignetError('INVALID_ARGUMENT', `${material.file} can't be read`, { cause: error });
  }
}

function bearer(text: string, credential: ClusterCredential): string {
  const token = text.trim();
  if (/^[\x21-\x7e]{1,16384}$/.test(token)) return token;
  const where = credential.kind === 'token' && 'file' in credential.token ? credential.token.file : 'the kubeconfig';
  throw new SignetError('INVALID_ARGUMENT', `${where} holds no token`);
}
