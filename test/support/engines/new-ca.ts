import { createIntermediateCertificate, createRootCertificate } from '../../../src/x509/ca-certificate.ts';
import { localSigner } from '../../../src/x509/issuing-ca.ts';
import { generateKeyPair, privateKeyPem } from '../../../src/x509/keys.ts';
import { pemEncode } from '../../../src/x509/pem.ts';

const dayMs = 86_400_000;

/** What an engine signs with: a root that is kept away, and an intermediate with its key, in PEM. */
export interface EngineCa {
  readonly root: Buffer;
  readonly rootPem: string;
  readonly intermediatePem: string;
  readonly intermediateKeyPem: string;
}

export async function newEngineCa(name: string): Promise<EngineCa> {
  const now = Math.floor(Date.now() / 1000) * 1000;
  const life = { notBefore: now - 3_600_000, notAfter: now + 30 * dayMs };
  const rootKey = generateKeyPair();
  const root = createRootCertificate({ key: rootKey, commonName: `${name} root`, organization: 'Test', ...life });
  const key = generateKeyPair();
  const intermediate = await createIntermediateCertificate({
    issuer: { certificate: root, signer: localSigner(rootKey.privateKey) },
    spki: key.spki,
    commonName: `${name} intermediate`,
    organization: 'Test',
    ...life,
    pathLength: 0,
  });
  return {
    root,
    rootPem: pemEncode('CERTIFICATE', root),
    intermediatePem: pemEncode('CERTIFICATE', intermediate),
    intermediateKeyPem: privateKeyPem(key.privateKey),
  };
}
