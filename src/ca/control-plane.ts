import { z } from 'zod';
import type { Clock } from '../base/clock.ts';
import { SignetError } from '../base/errors.ts';
import type { TrustDomain } from '../spiffe/id.ts';
import { createRootCertificate } from '../x509/ca-certificate.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { verifyChain } from '../x509/chain.ts';
import { localSigner } from '../x509/issuing-ca.ts';
import { generateKeyPair, privateKeyPem } from '../x509/keys.ts';
import { pemEncode } from '../x509/pem.ts';
import { createServerCertificate } from '../x509/server-certificate.ts';
import { openCa, sealCa, sealedCaSchema } from './ca-key.ts';
import { caBackdateMs, caSubject, wholeSeconds, yearMs } from './ca-name.ts';
import type { CaState } from './ca-state.ts';
import type { KeySeal } from './key-seal.ts';
import { encodeDocument, readDocument } from './state-document.ts';

export interface ServingNames {
  readonly dnsNames: readonly string[];
  /** Textual, IPv4 or IPv6. */
  readonly ipAddresses: readonly string[];
}

export interface ServingCertificate {
  /** Leaf, then the root: clients that pin the root by the hash of its public key need to be shown it. */
  readonly certificatePem: string;
  /** PKCS#8. For memory only. */
  readonly keyPem: string;
  readonly notAfter: number;
}

export interface ControlPlaneCa {
  readonly rootPem: string;
  readonly rootDer: Buffer;
  /** A new key and certificate for these names and `spiffe://<trust domain>/signet/server`, good for 30 days. */
  issueServing(names: ServingNames): Promise<ServingCertificate>;
}

const stateName = 'ca/control-plane';
const purpose = 'ca/control-plane/root';
const rootLifeMs = 10 * yearMs;
const servingLifeMs = 30 * 86_400_000;

const documentSchema = z.strictObject({ format: z.literal(1), trustDomain: z.string(), root: sealedCaSchema });
type ControlPlaneDocument = z.infer<typeof documentSchema>;

/**
 * The CA of the server's own certificate: a key of its own, and never an anchor for workloads, so that rotating their
 * roots never touches what a bootstrap pins, and no workload certificate can pose as the server.
 * Throws STORE_MISMATCH, STORE_CORRUPT or KEY_UNSEALABLE.
 */
export async function openControlPlaneCa(options: {
  readonly trustDomain: TrustDomain;
  readonly state: CaState;
  readonly seal: KeySeal;
  readonly clock: Clock;
}): Promise<ControlPlaneCa> {
  const { trustDomain, seal, clock } = options;
  const { root } = await loadOrCreate(options);
  const { certificate } = root;
  const rootEnd = parseCertificate(certificate).notAfter;
  const rootPem = pemEncode('CERTIFICATE', certificate);
  // Opened now, so that a wrong key-encryption key is found at the start and not at the first renewal.
  const signer = localSigner(openCa(seal, purpose, root));

  return {
    rootPem,
    rootDer: certificate,
    async issueServing({ dnsNames, ipAddresses }) {
      const now = clock.now();
      const key = generateKeyPair();
      const notAfter = Math.min(wholeSeconds(now + servingLifeMs), rootEnd);
      const leaf = await createServerCertificate({
        ca: { certificate, signer },
        spki: key.spki,
        dnsNames,
        ipAddresses,
        uris: [`spiffe://${trustDomain}/signet/server`],
        notBefore: wholeSeconds(now - caBackdateMs),
        notAfter,
      });
      return { certificatePem: pemEncode('CERTIFICATE', leaf) + rootPem, keyPem: privateKeyPem(key.privateKey), notAfter };
    },
  };
}

async function loadOrCreate(options: Parameters<typeof openControlPlaneCa>[0]): Promise<ControlPlaneDocument> {
  const { trustDomain, state, seal, clock } = options;
  const stored = await readDocument(state, stateName, documentSchema);
  if (stored) return verified(stored.value, trustDomain);
  const now = clock.now();
  const key = generateKeyPair();
  const certificate = createRootCertificate({
    key,
    ...caSubject('control plane', trustDomain, now),
    notBefore: wholeSeconds(now - caBackdateMs),
    notAfter: wholeSeconds(now + rootLifeMs),
  });
  const document: ControlPlaneDocument = { format: 1, trustDomain, root: sealCa(seal, purpose, certificate, key) };
  if (await state.compareAndSet(stateName, 0, encodeDocument(document))) return document;
  // Another replica was first: its root is the one that clients pin.
  return loadOrCreate(options);
}

function verified(document: ControlPlaneDocument, trustDomain: TrustDomain): ControlPlaneDocument {
  if (document.trustDomain !== trustDomain) {
    throw new SignetError(
      'STORE_MISMATCH',
      `the control-plane CA in this store is of the trust domain ${document.trustDomain}, not ${trustDomain}`,
    );
  }
  const { certificate } = document.root;
  try {
    verifyChain([certificate], [certificate], parseCertificate(certificate).notBefore);
  } catch (error) {
    throw new SignetError('STORE_CORRUPT', "the control-plane CA's certificate in this store doesn't verify", { cause: error });
  }
  return document;
}
