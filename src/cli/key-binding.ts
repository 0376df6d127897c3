import { askWithCsr } from '../api/named-csr.ts';
import type { ErrorCode } from '../base/errors.ts';
import { SignetError } from '../base/errors.ts';
import type { KeyAlgorithm } from '../x509/keys.ts';
import type { BoundKey } from './certificate-client.ts';
import type { HeldKey, KeyFolder } from './key-folder.ts';

/** Answers after which the key is certainly not bound. Anything else may have been bound with the answer lost. */
const refusals: ReadonlySet<ErrorCode> = new Set([
  'UNAUTHENTICATED',
  'TOKEN_EXPIRED',
  'IDENTITY_SOURCE_UNAVAILABLE',
  'PERMISSION_DENIED',
  'IDENTITY_DENIED',
  'INSTANCE_REQUIRED',
  'INVALID_CSR',
  'CSR_NAME_REQUIRED',
  'INVALID_ARGUMENT',
  'BINDING_CONFLICT',
  'RATE_LIMITED',
  'TOO_LARGE',
  'UNIMPLEMENTED',
]);

export interface BindDeps {
  readonly folder: KeyFolder;
  /** Absolute: the name of the folder on Envoy's host. */
  readonly keyDirectory: string;
  readonly algorithm: KeyAlgorithm;
  readonly bindKey: (request: { readonly csr: Buffer; readonly keyDirectory: string }) => Promise<BoundKey>;
}

/**
 * The key file is durable before the server is asked to bind it, so that the chain never comes before its key. `again`
 * offers the bound key once more (a start after a stop), which makes it no younger; otherwise a new one is made, unless
 * one still waits for its answer.
 */
export async function bindOnce(deps: BindDeps, again: boolean): Promise<BoundKey> {
  const { folder, keyDirectory } = deps;
  const waiting = await present(folder, folder.unanswered());
  const held = waiting ?? (again ? await present(folder, folder.bound()) : undefined);
  const key = held ?? folder.make(deps.algorithm);
  try {
    const pair = await folder.load(key);
    const bound = await askWithCsr(pair, (csr) => deps.bindKey({ csr, keyDirectory }));
    folder.markBound(key, bound.keyEnds * 1000);
    return bound;
  } catch (error) {
    const code = SignetError.from(error).code;
    // A key that was bound before is still what the server signs for, whatever it said to being asked again.
    if (refusals.has(code) && key.spkiSha256 !== folder.bound()?.spkiSha256) await folder.drop(key);
    throw error;
  }
}

/** A key whose file somebody took away, or that a crash left without one, is no key any more. */
async function present(folder: KeyFolder, key: HeldKey | undefined): Promise<HeldKey | undefined> {
  if (!key) return undefined;
  try {
    await folder.load(key);
    return key;
  } catch {
    await folder.drop(key);
    return undefined;
  }
}
