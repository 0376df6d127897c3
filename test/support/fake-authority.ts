import { setImmediate as turn } from 'node:timers/promises';
import type { Clock } from '../../src/base/clock.ts';
import { SignetError } from '../../src/base/errors.ts';
import type { Authority, SignedChain, SigningRequest } from '../../src/ca/authority.ts';
import { createIntermediateCertificate, createRootCertificate } from '../../src/x509/ca-certificate.ts';
import { localSigner } from '../../src/x509/issuing-ca.ts';
import type { IssuingCa } from '../../src/x509/issuing-ca.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { createLeafIssuer } from '../../src/x509/leaf.ts';

const dayMs = 86_400_000;

/** A CA in memory with real certificates, whose conduct a test can change. */
export interface FakeAuthority extends Authority {
  readonly root: Buffer;
  /** The CA that it signs under. */
  readonly issuing: IssuingCa;
  readonly requests: SigningRequest[];
  /** `hang` never settles and ignores its signal: the worst that a backend can do. */
  conduct: 'good' | 'hang' | 'fail' | 'throw';
  /** Runs before each signature, and may throw: how it is slow, or throttles. */
  before: (() => void | Promise<void>) | undefined;
  /** Changes what is returned. */
  tamper: ((signed: SignedChain, request: SigningRequest) => SignedChain | Promise<SignedChain>) | undefined;
}

export async function fakeAuthority(options: {
  clock: Clock;
  name?: string;
  builtHere?: boolean;
  intermediateLifeMs?: number;
}): Promise<FakeAuthority> {
  const name = options.name ?? 'fake';
  const now = Math.floor(options.clock.now() / 1000) * 1000;
  const rootKey = generateKeyPair();
  const notBefore = now - 3_600_000;
  const root = createRootCertificate({
    key: rootKey,
    commonName: `${name} root`,
    organization: 'Test',
    notBefore,
    notAfter: now + 3650 * dayMs,
  });
  const key = generateKeyPair();
  const issuersEnd = now + (options.intermediateLifeMs ?? 365 * dayMs);
  const certificate = await createIntermediateCertificate({
    issuer: { certificate: root, signer: localSigner(rootKey.privateKey) },
    spki: key.spki,
    commonName: `${name} intermediate`,
    organization: 'Test',
    notBefore,
    notAfter: issuersEnd,
    pathLength: 0,
  });
  const issuing: IssuingCa = { certificate, signer: localSigner(key.privateKey) };
  const leaves = createLeafIssuer(issuing);

  const authority: FakeAuthority = {
    name,
    type: 'fake',
    capabilities: { builtHere: options.builtHere ?? false, exactLife: true },
    root,
    issuing,
    requests: [],
    conduct: 'good',
    before: undefined,
    tamper: undefined,
    async sign(request) {
      authority.requests.push(request);
      if (authority.conduct === 'hang') await new Promise<never>(() => undefined);
      if (authority.conduct === 'fail') throw new SignetError('AUTHORITY_UNAVAILABLE', 'the CA is away');
      if (authority.conduct === 'throw') throw new Error('ECONNRESET 10.0.0.7');
      await authority.before?.();
      await turn();
      const leaf = await leaves.issue(request);
      const signed: SignedChain = { certificates: [leaf.der, certificate], issuerKeyId: leaves.keyId, leaf };
      return authority.tamper ? authority.tamper(signed, request) : signed;
    },
    anchors: () => Promise.resolve([root]),
    issuersEnd: () => issuersEnd,
    health: () => Promise.resolve({ canSign: authority.conduct === 'good', detail: '' }),
    onChange: () => () => undefined,
    close: () => Promise.resolve(),
  };
  return authority;
}
