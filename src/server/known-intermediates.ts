import type { Log } from '../base/log.ts';
import type { CaState } from '../ca/ca-state.ts';
import type { Authenticator } from '../identity/authenticator.ts';
import type { Issuer } from '../issuance/issuer.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { certificatesFromPem, pemEncode } from '../x509/pem.ts';

const documentName = 'known-intermediates';
const longestKept = 32;
const longestChain = 6;

/**
 * Node shows a TLS server its client's leaf alone, so the intermediates that came with it are completed from those that
 * certificates were issued under here. They are public, few, and kept in the store, so that a restart doesn't send
 * everybody back to tokens.
 */
export interface KnownIntermediates {
  /** The same issuer; from each chain that it makes the intermediates are learnt. */
  learning(issuer: Issuer): Issuer;
  /** The same authenticator, shown the client's whole chain as far as it is known. */
  completing(authenticator: Authenticator): Authenticator;
}

export async function openKnownIntermediates(state: CaState, log: Log): Promise<KnownIntermediates> {
  const byKeyId = new Map<string, Buffer>();
  const seen = new WeakSet<Buffer>();
  const stored = await state.read(documentName);
  let epoch = stored?.epoch ?? 0;
  let saving: Promise<void> = Promise.resolve();
  if (stored) for (const der of certificatesFromPem(stored.value.toString('latin1'))) remember(der);

  function remember(der: Buffer): boolean {
    const { subjectKeyId } = parseCertificate(der);
    if (subjectKeyId === undefined || byKeyId.has(subjectKeyId)) return false;
    byKeyId.set(subjectKeyId, der);
    for (const oldest of byKeyId.keys()) {
      if (byKeyId.size <= longestKept) break;
      byKeyId.delete(oldest);
    }
    return true;
  }

  async function save(): Promise<void> {
    const pem = [...byKeyId.values()].map((der) => pemEncode('CERTIFICATE', der)).join('');
    if (await state.compareAndSet(documentName, epoch, Buffer.from(pem, 'latin1'))) epoch++;
    else epoch = (await state.read(documentName))?.epoch ?? 0;
  }

  function complete(chain: readonly Buffer[]): readonly Buffer[] {
    const [leaf, ...given] = chain;
    if (!leaf || given.length > 0) return chain;
    const above: Buffer[] = [];
    for (let next = issuerOf(leaf); next && above.length < longestChain && !above.includes(next); next = issuerOf(next)) above.push(next);
    return [leaf, ...above];
  }

  function issuerOf(der: Buffer): Buffer | undefined {
    try {
      return byKeyId.get(parseCertificate(der).authorityKeyId ?? '');
    } catch {
      // TLS takes what our parser doesn't. Whether a certificate is good is for the authenticator to say, and how.
      return undefined;
    }
  }

  function learn(chain: readonly Buffer[]): void {
    for (const der of chain.slice(1)) {
      // By the identity of the Buffer first: this is asked of every certificate issued, and an authority shows the same one.
      if (seen.has(der)) continue;
      seen.add(der);
      if (!remember(der)) continue;
      saving = saving.then(save).catch((error: unknown) => {
        log.warn({ err: error }, 'an intermediate could not be kept; after a restart, certificates under it need a token to renew');
      });
    }
  }

  return {
    learning: (issuer) => ({
      ...issuer,
      async issue(request, signal) {
        const issued = await issuer.issue(request, signal);
        learn(issued.chain.certificates);
        return issued;
      },
    }),
    completing: (authenticator) => ({
      ...authenticator,
      authenticate: (credentials, signal) =>
        // A call with a token is judged by the token alone.
        authenticator.authenticate(
          credentials.token === undefined ? { ...credentials, peerChain: complete(credentials.peerChain) } : credentials,
          signal,
        ),
    }),
  };
}
