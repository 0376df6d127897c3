import { createHash } from 'node:crypto';
import { z } from 'zod';
import { SignetError } from '../base/errors.ts';

/** What is kept of the trust bundle: each source's last good certificates, and the generation that their union has. */
export interface BundleDocument {
  readonly generation: number;
  /** Hash of the union, as in the version. */
  readonly hash: string;
  /** DER, by the name of the source. */
  readonly sources: ReadonlyMap<string, readonly Buffer[]>;
}

const base64 = z.base64().max(100_000);
const schema = z.strictObject({
  format: z.literal(1),
  generation: z.int().min(1),
  hash: z.string().regex(/^[0-9a-f]{16}$/),
  sources: z.record(z.string().min(1).max(4200), z.array(base64).min(1).max(10_000)),
});

export function encodeBundleDocument(document: BundleDocument): Buffer {
  const sources: Record<string, string[]> = {};
  for (const [name, certificates] of [...document.sources].sort(([a], [b]) => (a < b ? -1 : 1))) {
    sources[name] = certificates.map((der) => der.toString('base64'));
  }
  return Buffer.from(JSON.stringify({ format: 1, generation: document.generation, hash: document.hash, sources }));
}

/** Throws STORE_CORRUPT: the store is ours, so anything else than what we wrote is damage. */
export function decodeBundleDocument(bytes: Buffer): BundleDocument {
  let parsed: z.infer<typeof schema>;
  try {
    parsed = schema.parse(JSON.parse(bytes.toString('utf8')));
  } catch (error) {
    throw new SignetError('STORE_CORRUPT', 'the trust bundle in the store is damaged', { cause: error });
  }
  const sources = new Map(Object.entries(parsed.sources).map(([name, list]) => [name, list.map((text) => Buffer.from(text, 'base64'))]));
  return { generation: parsed.generation, hash: parsed.hash, sources };
}

/** Over the canonical form (sorted, each once): equal sets of certificates have equal hashes. */
export function hashCertificates(certificates: readonly Buffer[]): string {
  const hash = createHash('sha256');
  for (const der of certificates) hash.update(der);
  return hash.digest('hex').slice(0, 16);
}
