import type { Clock } from '../../src/base/clock.ts';
import { SignetError } from '../../src/base/errors.ts';
import type { IntermediateRequest } from '../../src/ca/authority.ts';
import type { IntermediateUpstream } from '../../src/ca/intermediate/upstream.ts';
import { createIntermediateCertificate, createRootCertificate } from '../../src/x509/ca-certificate.ts';
import { parseCsr } from '../../src/x509/csr.ts';
import { localSigner } from '../../src/x509/issuing-ca.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import type { KeyPair } from '../../src/x509/keys.ts';

const dayMs = 86_400_000;

interface Root {
  readonly key: KeyPair;
  readonly certificate: Buffer;
}

/** How a certificate differs from what was asked for. */
export interface Twist {
  readonly spki?: Buffer;
  readonly notAfter?: number;
  readonly pathLength?: number;
  readonly uri?: string;
  /** Signed under a root that nobody was told of. */
  readonly unknownRoot?: boolean;
}

/** An upstream in memory with real certificates, whose conduct a test can change. */
export interface FakeIntermediateUpstream extends IntermediateUpstream {
  readonly requests: IntermediateRequest[];
  conduct: 'good' | 'away' | 'refuses';
  /** What its health says is wrong, if anything. */
  ails: string | undefined;
  twist: Twist;
  /** The roots that it names. */
  named: Root[];
  /** The one it signs under. */
  signing: Root;
  newRoot(): Root;
  changed(): void;
}

export function fakeIntermediateUpstream({ clock }: { readonly clock: Clock }): FakeIntermediateUpstream {
  const listeners = new Set<() => void>();
  const seconds = (ms: number): number => Math.floor(ms / 1000) * 1000;
  let made = 0;
  const newRoot = (): Root => {
    const key = generateKeyPair();
    const life = { notBefore: seconds(clock.now()) - dayMs, notAfter: seconds(clock.now()) + 3650 * dayMs };
    return {
      key,
      certificate: createRootCertificate({ key, commonName: `upstream root ${String(++made)}`, organization: 'Test', ...life }),
    };
  };
  const first = newRoot();
  const work = (): void => {
    if (fake.conduct === 'away') throw new SignetError('AUTHORITY_UNAVAILABLE', 'the upstream is away');
    if (fake.conduct === 'refuses') throw new SignetError('AUTHORITY_REFUSED', 'the upstream says no');
  };
  const fake: FakeIntermediateUpstream = {
    type: 'fake',
    forLeavesOnly: true,
    requests: [],
    conduct: 'good',
    ails: undefined,
    twist: {},
    named: [first],
    signing: first,
    newRoot,
    changed() {
      for (const listener of listeners) listener();
    },
    async signIntermediate(request) {
      fake.requests.push(request);
      work();
      const { twist } = fake;
      const { key, certificate } = twist.unknownRoot === true ? newRoot() : fake.signing;
      const der = await createIntermediateCertificate({
        issuer: { certificate, signer: localSigner(key.privateKey) },
        spki: twist.spki ?? parseCsr(request.csr).key.spki,
        commonName: request.commonName,
        organization: 'Test',
        // Backdated, as CAs do.
        notBefore: seconds(clock.now()) - 3_600_000,
        notAfter: twist.notAfter ?? request.notAfter,
        uri: twist.uri ?? 'spiffe://example.org',
        pathLength: twist.pathLength ?? 0,
      });
      return { certificates: [der] };
    },
    anchors() {
      return Promise.resolve().then(() => {
        work();
        return fake.named.map(({ certificate }) => certificate);
      });
    },
    health: () => Promise.resolve({ canSign: fake.ails === undefined, detail: fake.ails ?? '' }),
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close: () => Promise.resolve(),
  };
  return fake;
}
