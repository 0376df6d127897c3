import { z } from 'zod';
import { SignetError } from '../../base/errors.ts';
import { trustDomainUri } from '../../spiffe/id.ts';
import type { TrustDomain } from '../../spiffe/id.ts';
import { createIntermediateCertificate, createRootCertificate } from '../../x509/ca-certificate.ts';
import { parseCertificate } from '../../x509/certificate.ts';
import { verifyChain } from '../../x509/chain.ts';
import { parseCsr } from '../../x509/csr.ts';
import { localSigner } from '../../x509/issuing-ca.ts';
import { generateKeyPair } from '../../x509/keys.ts';
import { createLeafIssuer } from '../../x509/leaf.ts';
import { openCa, sealCa, sealedCaSchema } from '../ca-key.ts';
import type { IntermediateRequest } from '../authority.ts';
import { caBackdateMs, caSubject, wholeSeconds } from '../ca-name.ts';
import type { KeySeal } from '../key-seal.ts';
import type { ActiveCa } from '../leaf-signing.ts';

/** What the store keeps of one built-in CA. */
export const caDocumentSchema = z.strictObject({
  format: z.literal(1),
  trustDomain: z.string(),
  root: sealedCaSchema,
  intermediate: sealedCaSchema,
  /** Earlier intermediates until they end: leaves under them are still out, and only their keys could revoke those. */
  retired: z.array(sealedCaSchema).max(100),
});

export type CaDocument = z.infer<typeof caDocumentSchema>;

/** What the making and opening of documents depends on. Lives are in ms. */
export interface CaSettings {
  readonly name: string;
  readonly trustDomain: TrustDomain;
  readonly seal: KeySeal;
  readonly rootLifeMs: number;
  readonly intermediateLifeMs: number;
}

export interface OpenedCa extends ActiveCa {
  readonly document: CaDocument;
  readonly root: Buffer;
  readonly rootEnd: number;
  readonly intermediateEnd: number;
  /** When the next intermediate is due: half of this one's life leaves months for a repair. */
  readonly renewAt: number;
}

const rootPurpose = (name: string): string => `ca/backend/${name}/root`;
const intermediatePurpose = (name: string): string => `ca/backend/${name}/intermediate`;

/** A new root and the first intermediate under it. */
export async function createCa(settings: CaSettings, now: number): Promise<CaDocument> {
  const { name, trustDomain, seal, rootLifeMs } = settings;
  const key = generateKeyPair();
  const certificate = createRootCertificate({
    key,
    ...caSubject('root', trustDomain, now),
    notBefore: wholeSeconds(now - caBackdateMs),
    notAfter: wholeSeconds(now + rootLifeMs),
    uri: trustDomainUri(trustDomain),
  });
  const root = sealCa(seal, rootPurpose(name), certificate, key);
  const intermediate = await createIntermediate(settings, root, now);
  return { format: 1, trustDomain, root, intermediate, retired: [] };
}

/** The same root with a new intermediate. */
export async function renewIntermediate(settings: CaSettings, document: CaDocument, now: number): Promise<CaDocument> {
  const intermediate = await createIntermediate(settings, document.root, now);
  const retired = [document.intermediate, ...document.retired].filter(({ certificate }) => parseCertificate(certificate).notAfter > now);
  return { ...document, intermediate, retired };
}

/** A CA of somebody else's below the root: for leaves only, of this trust domain. */
export async function certifyIntermediate(
  settings: CaSettings,
  { root }: CaDocument,
  request: Pick<IntermediateRequest, 'csr' | 'commonName' | 'notAfter'>,
  now: number,
): Promise<Buffer> {
  const { name, trustDomain, seal } = settings;
  return createIntermediateCertificate({
    issuer: { certificate: root.certificate, signer: localSigner(openCa(seal, rootPurpose(name), root)) },
    spki: parseCsr(request.csr).key.spki,
    commonName: request.commonName,
    organization: caSubject('', trustDomain, now).organization,
    notBefore: wholeSeconds(now - caBackdateMs),
    notAfter: Math.min(wholeSeconds(request.notAfter), parseCertificate(root.certificate).notAfter),
    uri: trustDomainUri(trustDomain),
    pathLength: 0,
  });
}

/** The root's key is decrypted for this one signature and let go. */
async function createIntermediate(settings: CaSettings, root: CaDocument['root'], now: number): Promise<CaDocument['intermediate']> {
  const { name, trustDomain, seal, intermediateLifeMs } = settings;
  const key = generateKeyPair();
  const certificate = await createIntermediateCertificate({
    issuer: { certificate: root.certificate, signer: localSigner(openCa(seal, rootPurpose(name), root)) },
    spki: key.spki,
    ...caSubject('intermediate', trustDomain, now),
    notBefore: wholeSeconds(now - caBackdateMs),
    notAfter: Math.min(wholeSeconds(now + intermediateLifeMs), parseCertificate(root.certificate).notAfter),
    uri: trustDomainUri(trustDomain),
    pathLength: 0,
  });
  return sealCa(seal, intermediatePurpose(name), certificate, key);
}

/**
 * Opens what the store gave. Everything but the dates is verified: a CA that has ended must still open, so that it can
 * be renewed or say what is wrong. Throws STORE_MISMATCH, STORE_CORRUPT or KEY_UNSEALABLE.
 */
export function openDocument(settings: CaSettings, document: CaDocument): OpenedCa {
  const { name, trustDomain, seal } = settings;
  if (document.trustDomain !== trustDomain) {
    throw new SignetError(
      'STORE_MISMATCH',
      `the CA ${name} in this store is of the trust domain ${document.trustDomain}, not ${trustDomain}`,
    );
  }
  const root = document.root.certificate;
  const { certificate } = document.intermediate;
  const rootEnd = parseCertificate(root).notAfter;
  const { notBefore, notAfter } = parseCertificate(certificate);
  try {
    verifyChain([certificate], [root], notBefore);
  } catch (error) {
    throw new SignetError('STORE_CORRUPT', `the certificates of the CA ${name} in this store don't verify`, { cause: error });
  }
  const key = openCa(seal, intermediatePurpose(name), document.intermediate);
  return {
    document,
    root,
    rootEnd,
    intermediateEnd: notAfter,
    issuersEnd: Math.min(rootEnd, notAfter),
    renewAt: notBefore + (notAfter - notBefore) / 2,
    issuer: createLeafIssuer({ certificate, signer: localSigner(key) }),
    intermediates: [certificate],
  };
}
