import type { Log } from '../base/log.ts';
import type { CaState } from '../ca/ca-state.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { certificatesFromPem, pemEncode } from '../x509/pem.ts';

const documentName = 'known-intermediates';
const longestKept = 32;

/**
 * TLS tells of a client's leaf alone, so the intermediates that it came with are completed from those that we have signed
 * under ourselves. They are public, few, and kept in the store, so that a restart doesn't send everybody back to tokens.
 */
export interface KnownIntermediates {
  /** The chain of a leaf, as far as its issuers are known: leaf first. */
  complete(chain: readonly Buffer[]): readonly Buffer[];
  /** Learns the intermediates of a chain that was issued here. */
  learn(chain: readonly Buffer[]): void;
}

export async function openKnownIntermediates(state: CaState, log: Log): Promise<KnownIntermediates> {
  const byKeyId = new Map<string, Buffer>();
  const seen = new Set<string>();
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

  return {
    complete(chain) {
      const [leaf, ...given] = chain;
      if (!leaf || given.length > 0) return chain;
      const issuer = byKeyId.get(parseCertificate(leaf).authorityKeyId ?? '');
      return issuer ? [leaf, issuer] : chain;
    },
    learn(chain) {
      for (const der of chain.slice(1)) {
        // By the bytes first: this is asked of every certificate issued.
        const name = der.toString('latin1', Math.max(0, der.length - 72));
        if (seen.has(name)) continue;
        seen.add(name);
        if (!remember(der)) continue;
        saving = saving.then(save).catch((error: unknown) => {
          log.warn({ err: error }, 'an intermediate could not be kept; after a restart, certificates under it need a token to renew');
        });
      }
    },
  };
}
