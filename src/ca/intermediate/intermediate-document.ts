import { z } from 'zod';
import { SignetError } from '../../base/errors.ts';
import type { TrustDomain } from '../../spiffe/id.ts';
import { parseCertificate } from '../../x509/certificate.ts';
import { verifyChain } from '../../x509/chain.ts';
import { localSigner } from '../../x509/issuing-ca.ts';
import { createLeafIssuer } from '../../x509/leaf.ts';
import { openCa, sealedCaSchema } from '../ca-key.ts';
import type { KeySeal } from '../key-seal.ts';
import type { ActiveCa } from '../leaf-signing.ts';
import { base64Bytes } from '../state-document.ts';

const certificate = base64Bytes(32 * 1024);

/** One intermediate: its key sealed, the CAs above it, the root that it hangs on, and when it was made: certificates are backdated. */
const slotSchema = z.strictObject({ ...sealedCaSchema.shape, above: z.array(certificate).max(8), root: certificate, madeAt: z.int() });
export type Slot = z.output<typeof slotSchema>;

/** What the store keeps of one intermediate CA. */
export const intermediateDocumentSchema = z.strictObject({
  format: z.literal(1),
  trustDomain: z.string(),
  /** The roots that the upstream named last, and since when: they are trusted while it is away, after a restart, too. */
  anchors: z.array(z.strictObject({ certificate, since: z.int() })).max(50),
  current: slotSchema.optional(),
  /** Certified, and waiting until its root has had the time to reach everybody. */
  next: z.strictObject({ ...slotSchema.shape, from: z.int() }).optional(),
  /** Earlier ones until they end: leaves under them are still out. */
  retired: z.array(slotSchema).max(100),
});
export type IntermediateDocument = z.output<typeof intermediateDocumentSchema>;

export interface SlotSettings {
  readonly name: string;
  readonly trustDomain: TrustDomain;
  readonly seal: KeySeal;
}

export interface OpenedSlot extends ActiveCa {
  readonly slot: Slot;
}

export const keyPurpose = (name: string): string => `ca/intermediate/${name}`;

export function endOf({ certificate: der, above, root }: Slot): number {
  return Math.min(...[der, ...above, root].map((one) => parseCertificate(one).notAfter));
}

/**
 * Verifies all but the dates and opens the key: one that has ended must still open, so that it can be renewed. Throws
 * STORE_CORRUPT or KEY_UNSEALABLE.
 */
export function openSlot({ name, seal }: SlotSettings, slot: Slot): OpenedSlot {
  const chain = [slot.certificate, ...slot.above];
  try {
    verifyChain(chain, [slot.root], Math.max(...[...chain, slot.root].map((der) => parseCertificate(der).notBefore)));
  } catch (error) {
    throw new SignetError('STORE_CORRUPT', `the certificates of the intermediate CA ${name} in this store don't verify`, { cause: error });
  }
  const key = openCa(seal, keyPurpose(name), slot);
  return {
    slot,
    issuersEnd: endOf(slot),
    issuer: createLeafIssuer({ certificate: slot.certificate, signer: localSigner(key) }),
    intermediates: chain,
  };
}

/** Throws STORE_MISMATCH. */
export function checkTrustDomain({ name, trustDomain }: SlotSettings, document: IntermediateDocument): void {
  if (document.trustDomain === trustDomain) return;
  throw new SignetError(
    'STORE_MISMATCH',
    `the CA ${name} in this store is of the trust domain ${document.trustDomain}, not ${trustDomain}`,
  );
}

/** The roots to be trusted: what the upstream names, and what our own certificates that may still be out hang on. */
export function anchorsOf({ anchors, current, next, retired }: IntermediateDocument, now: number): Buffer[] {
  const ours = [current, next, ...retired].flatMap((slot) => (slot && endOf(slot) > now ? [slot.root] : []));
  return [...anchors.map((anchor) => anchor.certificate), ...ours].filter(
    (der, i, all) => all.findIndex((other) => other.equals(der)) === i,
  );
}

/** The roots as the upstream names them now. Before the first intermediate nobody has to be waited for. */
export function withAnchors(document: IntermediateDocument, named: readonly Buffer[], now: number): IntermediateDocument {
  const since = document.current ? now : 0;
  const anchors = named.map((der) => document.anchors.find((known) => known.certificate.equals(der)) ?? { certificate: der, since });
  return { ...document, anchors };
}

/** The document once `made` has been certified: at once in use, unless its root is new to those who have to trust it, or waits for approval. */
export function withSlot(
  document: IntermediateDocument,
  made: Slot,
  when: { readonly now: number; readonly distributionMs: number; readonly mayTrust: (root: Buffer) => boolean },
): IntermediateDocument {
  const { now, distributionMs, mayTrust } = when;
  const { current } = document;
  const hangsOnIt = [current, ...document.retired].some((slot) => slot?.root.equals(made.root));
  const since = hangsOnIt ? 0 : (document.anchors.find((known) => known.certificate.equals(made.root))?.since ?? now);
  const from = since + distributionMs;
  if (mayTrust(made.root) && (!current || from <= now || endOf(current) <= now)) return inUse(document, made, now);
  return { ...document, next: { ...made, from } };
}

/** The document with its next intermediate in use. */
export function withNext(document: IntermediateDocument, now: number): IntermediateDocument {
  if (!document.next) return document;
  const { from: _, ...slot } = document.next;
  return inUse(document, slot, now);
}

function inUse(document: IntermediateDocument, slot: Slot, now: number): IntermediateDocument {
  const { current, next: _, ...rest } = document;
  const retired = [...(current ? [current] : []), ...document.retired].filter((one) => endOf(one) > now).slice(0, 100);
  return { ...rest, current: slot, retired };
}
