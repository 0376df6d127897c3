import type { SecretFeed, FeedState, Published } from '../../src/sds/secret-source.ts';
import { parseSpiffeId } from '../../src/spiffe/id.ts';
import { createRootCertificate } from '../../src/x509/ca-certificate.ts';
import { checkIssued } from '../../src/x509/chain.ts';
import { localSigner } from '../../src/x509/issuing-ca.ts';
import { generateKeyPair, privateKeyPem } from '../../src/x509/keys.ts';
import { createLeafIssuer } from '../../src/x509/leaf.ts';
import type { CheckedAnchors, CheckedIdentity } from '../../src/x509/material.ts';
import { checkAnchors, checkIdentity } from '../../src/x509/preflight.ts';

const hour = 3_600_000;
const now = Date.now();
const validity = { notBefore: now - hour, notAfter: now + 24 * hour };

function makeRoot(name: string) {
  const key = generateKeyPair();
  return { key, der: createRootCertificate({ key, commonName: name, organization: 'Signet tests', ...validity }) };
}

const roots = [makeRoot('first root'), makeRoot('second root'), makeRoot('third root')];
const [first] = roots;
if (!first) throw new Error('no root');
const issuer = createLeafIssuer({ certificate: first.der, signer: localSigner(first.key.privateKey) });

/** Real anchors: `count` of three roots. */
export function anchors(count = 1): CheckedAnchors {
  return checkAnchors(
    roots.slice(0, count).map(({ der }) => der),
    now,
  );
}

/** A real certificate of its own, its key inline or (by folder) on Envoy's host. */
export async function identity(id: string, keyFolder?: string): Promise<CheckedIdentity> {
  const spiffeId = parseSpiffeId(id);
  const key = generateKeyPair();
  const leaf = await issuer.issue({ spki: key.spki, spiffeId, notBefore: now - hour, notAfter: now + hour });
  const expected = { spkiSha256: key.spkiSha256, spiffeId, notAfter: now + hour };
  const chain = checkIssued({ chain: [leaf.der], anchors: anchors().certificates, at: now, expected, builtHere: leaf });
  return checkIdentity(
    chain,
    keyFolder === undefined ? { inline: privateKeyPem(key.privateKey) } : { file: `${keyFolder}/${key.spkiSha256}.key` },
  );
}

export function publishedAnchors(generation: number, count = 1): Published {
  return { type: 'validation', version: `${String(generation)}.${String(count)}`, generation, anchors: anchors(count) };
}

export async function publishedIdentity(id: string, keyFolder?: string): Promise<Published> {
  const made = await identity(id, keyFolder);
  return { type: 'identity', version: made.chain.serial, identity: made };
}

export interface MemoryFeed extends SecretFeed {
  publish(state: FeedState): void;
  readonly subscribers: number;
}

export function memoryFeed(type: Published['type'], key: string, state: FeedState): MemoryFeed {
  const listeners = new Set<() => void>();
  let current = state;
  return {
    type,
    key,
    current: () => current,
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    publish(next) {
      current = next;
      for (const listener of listeners) listener();
    },
    get subscribers() {
      return listeners.size;
    },
  };
}
