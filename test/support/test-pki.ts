import { parseSpiffeId } from '../../src/spiffe/id.ts';
import { createIntermediateCertificate, createRootCertificate } from '../../src/x509/ca-certificate.ts';
import { localSigner } from '../../src/x509/issuing-ca.ts';
import type { IssuingCa } from '../../src/x509/issuing-ca.ts';
import { generateKeyPair, privateKeyPem } from '../../src/x509/keys.ts';
import { createLeafIssuer } from '../../src/x509/leaf.ts';
import { pemEncode } from '../../src/x509/pem.ts';
import { createServerCertificate } from '../../src/x509/server-certificate.ts';

const hourMs = 3_600_000;

export interface Pair {
  readonly certificatePem: string;
  readonly keyPem: string;
}

/** A root, an intermediate below it, and certificates of both kinds, by the product's own code. */
export interface TestPki {
  readonly rootPem: string;
  readonly root: Buffer;
  readonly intermediate: Buffer;
  /** Signed by the root, for 127.0.0.1 and localhost. */
  server(name?: string): Promise<Pair>;
  /** An SVID under the intermediate, which is in the chain. */
  client(spiffeId: string): Promise<Pair & { readonly leaf: Buffer }>;
}

export async function testPki(name = 'test'): Promise<TestPki> {
  const now = Math.floor(Date.now() / 1000) * 1000;
  const life = { notBefore: now - hourMs, notAfter: now + 24 * hourMs };
  const rootKey = generateKeyPair();
  const root = createRootCertificate({ key: rootKey, commonName: `${name} root`, organization: 'Test', ...life });
  const rootCa: IssuingCa = { certificate: root, signer: localSigner(rootKey.privateKey) };
  const key = generateKeyPair();
  const names = { commonName: `${name} intermediate`, organization: 'Test' };
  const intermediate = await createIntermediateCertificate({ issuer: rootCa, spki: key.spki, ...names, ...life, pathLength: 0 });
  const leaves = createLeafIssuer({ certificate: intermediate, signer: localSigner(key.privateKey) });
  const pem = (der: Buffer): string => pemEncode('CERTIFICATE', der);
  const leafLife = { notBefore: now - 60_000, notAfter: now + hourMs };
  return {
    root,
    rootPem: pem(root),
    intermediate,
    async server(dnsName = 'localhost') {
      const own = generateKeyPair();
      const der = await createServerCertificate({
        ca: rootCa,
        spki: own.spki,
        dnsNames: [dnsName],
        ipAddresses: ['127.0.0.1'],
        uris: ['spiffe://test.example/signet/server'],
        ...leafLife,
      });
      return { certificatePem: pem(der), keyPem: privateKeyPem(own.privateKey) };
    },
    async client(spiffeId) {
      const own = generateKeyPair();
      const { der: leaf } = await leaves.issue({ spki: own.spki, spiffeId: parseSpiffeId(spiffeId), ...leafLife });
      return { leaf, certificatePem: pem(leaf) + pem(intermediate), keyPem: privateKeyPem(own.privateKey) };
    },
  };
}
