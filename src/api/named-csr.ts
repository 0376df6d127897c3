import { SignetError } from '../base/errors.ts';
import { isSpiffeId } from '../spiffe/id.ts';
import type { SpiffeId } from '../spiffe/id.ts';
import { createCsr } from '../x509/csr.ts';
import type { KeyPair } from '../x509/keys.ts';

/**
 * Asks with a CSR that names nobody: the server knows whose token it is, and certifies nothing else. Where its CA needs the
 * name in the CSR the server says which, and is asked once more.
 */
export async function askWithCsr<Answer>(
  key: Pick<KeyPair, 'privateKey' | 'spki'>,
  ask: (csr: Buffer) => Promise<Answer>,
): Promise<Answer> {
  try {
    return await ask(createCsr(key, []));
  } catch (error) {
    const name = requiredName(error);
    if (name === undefined) throw error;
    return ask(createCsr(key, [name]));
  }
}

function requiredName(error: unknown): SpiffeId | undefined {
  if (!(error instanceof SignetError) || error.code !== 'CSR_NAME_REQUIRED') return undefined;
  const said = error.metadata['spiffe_id'];
  return said !== undefined && isSpiffeId(said) ? said : undefined;
}
