import { SignetError } from '../../src/base/errors.ts';
import type { Credential, Upstream } from '../../src/agent/upstream.ts';
import { parseSpiffeId } from '../../src/spiffe/id.ts';
import { createRootCertificate } from '../../src/x509/ca-certificate.ts';
import { parseCsr } from '../../src/x509/csr.ts';
import { localSigner } from '../../src/x509/issuing-ca.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { createLeafIssuer } from '../../src/x509/leaf.ts';

interface Answer {
  readonly chain: readonly Buffer[];
  readonly anchors: readonly Buffer[];
  readonly spiffeId: string;
  readonly trustGeneration: number;
}

/** A server that signs whatever it is asked to, and lies where it is told to. */
export interface FakeUpstream extends Pick<Upstream, 'call'> {
  /** What each call was shown. */
  readonly shown: readonly Credential[];
  /** Changes the answers from now on. */
  lie(how: ((answer: Answer) => Answer | Promise<Answer>) | undefined): void;
  /** Refuses from now on, all or some. */
  refuse(with_: ((credential: Credential) => SignetError | undefined) | undefined): void;
  /** A chain for a key and name of its own. */
  strange(spiffeId: string, lifeMs?: number): Promise<readonly Buffer[]>;
  readonly root: Buffer;
}

export function fakeUpstream(spiffeId: string, lifeMs = 3_600_000): FakeUpstream {
  const now = Math.floor(Date.now() / 1000) * 1000;
  const rootKey = generateKeyPair();
  const root = createRootCertificate({
    key: rootKey,
    commonName: 'fake upstream',
    organization: 'Signet tests',
    notBefore: now - 3_600_000,
    notAfter: now + 86_400_000,
  });
  const issuer = createLeafIssuer({ certificate: root, signer: localSigner(rootKey.privateKey) });
  const issue = async (spki: Buffer, id: string, ms: number): Promise<Buffer> =>
    (
      await issuer.issue({
        spki,
        spiffeId: parseSpiffeId(id),
        notBefore: now - 60_000,
        notAfter: Math.floor((Date.now() + ms) / 1000) * 1000,
      })
    ).der;
  const shown: Credential[] = [];
  let lying: ((answer: Answer) => Answer | Promise<Answer>) | undefined;
  let refusing: ((credential: Credential) => SignetError | undefined) | undefined;
  return {
    shown,
    root,
    lie(how) {
      lying = how;
    },
    refuse(with_) {
      refusing = with_;
    },
    strange: async (id, ms = lifeMs) => [await issue(generateKeyPair().spki, id, ms)],
    async call<Response>(_method: string, request: object, credential: Credential): Promise<Response> {
      shown.push(credential);
      const refusal = refusing?.(credential);
      if (refusal) throw refusal;
      if (!('csr' in request) || !Buffer.isBuffer(request.csr)) throw new SignetError('UNIMPLEMENTED', 'only certificates here');
      const { key } = parseCsr(request.csr);
      const answer: Answer = { chain: [await issue(key.spki, spiffeId, lifeMs)], anchors: [root], spiffeId, trustGeneration: 1 };
      return (lying ? await lying(answer) : answer) as Response;
    },
  };
}
