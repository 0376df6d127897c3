import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent, request } from 'undici';
import { z } from 'zod';
import { parseSpiffeId } from '../../../src/spiffe/id.ts';
import { createIntermediateCertificate, createRootCertificate } from '../../../src/x509/ca-certificate.ts';
import { parseCsr } from '../../../src/x509/csr.ts';
import { localSigner } from '../../../src/x509/issuing-ca.ts';
import { generateKeyPair } from '../../../src/x509/keys.ts';
import { createLeafIssuer } from '../../../src/x509/leaf.ts';
import type { LeafIssuer } from '../../../src/x509/leaf.ts';
import { pemEncode } from '../../../src/x509/pem.ts';
import type { KubeApiServer } from './kube-apiserver.ts';

/** What the signer does with a request. `longer`: it takes no notice of the life asked for. */
export type SignerConduct = 'sign' | 'deny' | 'fail' | 'approve-only' | 'ignore' | 'longer';

/**
 * A stand-in for somebody's approver and signer of CertificateSigningRequests: it approves whatever is for its signer name,
 * and signs with a root and an intermediate of its own. Kubernetes has none for names of one's own; the API server is real.
 */
export interface CsrSigner extends AsyncDisposable {
  readonly signerName: string;
  conduct: SignerConduct;
  /** PEM of the roots that it has signed under so far, the newest last. */
  roots(): string;
  /** A new root; it signs under it once `switch` is called. */
  newRoot(): Promise<{ readonly pem: string; switch(): void }>;
  stop(): Promise<void>;
  start(): void;
}

interface Ca {
  readonly rootPem: string;
  readonly intermediatePem: string;
  readonly leaves: LeafIssuer;
}

const hourMs = 3_600_000;
const signerName = 'pki.example.org/workloads';

async function createCa(generation: number): Promise<Ca> {
  const now = Math.floor(Date.now() / 1000) * 1000;
  const life = { notBefore: now - hourMs, notAfter: now + 30 * 24 * hourMs };
  const rootKey = generateKeyPair();
  const organization = 'Somebody';
  const root = createRootCertificate({ key: rootKey, commonName: `signer root ${String(generation)}`, organization, ...life });
  const key = generateKeyPair();
  const intermediate = await createIntermediateCertificate({
    issuer: { certificate: root, signer: localSigner(rootKey.privateKey) },
    spki: key.spki,
    commonName: `signer intermediate ${String(generation)}`,
    organization,
    notBefore: life.notBefore,
    notAfter: now + 20 * 24 * hourMs,
    pathLength: 0,
  });
  return {
    rootPem: pemEncode('CERTIFICATE', root),
    intermediatePem: pemEncode('CERTIFICATE', intermediate),
    leaves: createLeafIssuer({ certificate: intermediate, signer: localSigner(key.privateKey) }),
  };
}

const csr = z.object({
  metadata: z.object({ name: z.string() }),
  spec: z.object({ request: z.base64(), expirationSeconds: z.number() }),
  status: z.object({ conditions: z.array(z.object({ type: z.string() })).optional(), certificate: z.string().optional() }).optional(),
});
const event = z.object({ type: z.string(), object: z.unknown() });
const collection = '/apis/certificates.k8s.io/v1/certificatesigningrequests';

/** The ClusterTrustBundle that docs/how-to/ca-kubernetes-csr.md has the roots from; only the signer may write it. */
export const signerBundle = 'pki.example.org:workloads:main';

export async function publishRoots(kube: KubeApiServer, pem: string): Promise<void> {
  await kube.apply(
    JSON.stringify({
      apiVersion: 'certificates.k8s.io/v1beta1',
      kind: 'ClusterTrustBundle',
      metadata: { name: signerBundle },
      spec: { signerName, trustBundle: pem },
    }),
  );
}

export interface CsrSignerOptions {
  /** The signer's own policy: the longest life in ms that it gives to an identity, whatever is asked for; undefined for no limit. */
  readonly longestMs?: (spiffeId: string) => number | undefined;
}

export async function startCsrSigner(kube: KubeApiServer, options: CsrSignerOptions = {}): Promise<CsrSigner> {
  let ca = await createCa(0);
  const roots = [ca.rootPem];
  const agent = new Agent({ connect: { ca: await readFile(kube.caFile) }, bodyTimeout: 0 });
  let running: { readonly stop: AbortController; readonly done: Promise<void> } | undefined;

  async function watch(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const query = new URLSearchParams({ watch: 'true', fieldSelector: `spec.signerName=${signerName}` });
        const { body } = await request(`${kube.address}${collection}?${query.toString()}`, {
          dispatcher: agent,
          headers: { authorization: `Bearer ${kube.adminToken}` },
          signal,
        });
        for await (const line of createInterface({ input: body })) {
          const { type, object } = event.parse(JSON.parse(line));
          if (type === 'ADDED') await answered(csr.parse(object), signal);
        }
      } catch {
        // The API server is away, or this one is to stop.
      }
      await sleep(200, undefined, { signal }).catch(() => undefined);
    }
  }

  /** An API server that has just come up may refuse a while; and the request may be gone by now: whoever asked has given up. */
  async function answered(asked: z.output<typeof csr>, signal: AbortSignal): Promise<void> {
    for (let tries = 0; tries < 5 && !signal.aborted; tries++) {
      try {
        await answer(asked);
        return;
      } catch {
        await sleep(200, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  async function answer(asked: z.output<typeof csr>): Promise<void> {
    const { name } = asked.metadata;
    const before = asked.status?.conditions ?? [];
    if (signer.conduct === 'ignore' || before.length > 0) return;
    const verdict = signer.conduct === 'deny' ? 'Denied' : 'Approved';
    const condition = { type: verdict, status: 'True', reason: 'Test', message: `the test says ${signer.conduct}` };
    const put = async (part: 'approval' | 'status', status: object): Promise<void> => {
      await kube.call('PATCH', `${collection}/${name}/${part}`, { status }, 'application/merge-patch+json');
    };
    await put('approval', { conditions: [condition] });
    if (signer.conduct === 'fail') await put('status', { conditions: [condition, { ...condition, type: 'Failed' }] });
    if (signer.conduct !== 'sign' && signer.conduct !== 'longer') return;
    const parsed = parseCsr(Buffer.from(asked.spec.request, 'base64'));
    const now = Math.floor(Date.now() / 1000) * 1000;
    const spiffeId = parseSpiffeId(parsed.uris[0] ?? '');
    const life = signer.conduct === 'longer' ? 24 * hourMs : asked.spec.expirationSeconds * 1000;
    const { der: leaf } = await ca.leaves.issue({
      spki: parsed.key.spki,
      spiffeId,
      notBefore: now - 60_000,
      notAfter: now + Math.min(life, options.longestMs?.(spiffeId) ?? Infinity),
    });
    await put('status', { certificate: Buffer.from(pemEncode('CERTIFICATE', leaf) + ca.intermediatePem).toString('base64') });
  }

  const signer: CsrSigner = {
    signerName,
    conduct: 'sign',
    roots: () => roots.join(''),
    async newRoot() {
      const next = await createCa(roots.length);
      return {
        pem: next.rootPem,
        switch() {
          ca = next;
          roots.push(next.rootPem);
        },
      };
    },
    start() {
      const stop = new AbortController();
      running ??= { stop, done: watch(stop.signal) };
    },
    async stop() {
      running?.stop.abort();
      await running?.done;
      running = undefined;
    },
    async [Symbol.asyncDispose]() {
      await signer.stop();
      await agent.destroy();
    },
  };
  signer.start();
  return signer;
}
