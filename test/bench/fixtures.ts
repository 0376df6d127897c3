import { generateKeyPairSync, type KeyObject, randomUUID } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { exportJWK, SignJWT } from 'jose';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { pemEncode } from '../../src/x509/pem.ts';

export const benchIssuer = 'https://issuer.bench.test';

export interface Fixtures {
  /** A JWKS file for the server's issuer. */
  readonly jwksFile: string;
  /** One token a line; each with a service account of its own. */
  readonly tokensFile: string;
  /** One PEM request each, as a JSON array of strings. */
  readonly csrsFile: string;
}

export interface FixtureOptions {
  readonly tokens: number;
  readonly csrs: number;
  readonly audience: string;
  readonly algorithm: 'RS256' | 'ES256' | 'mixed';
}

/** Tokens with the claims of Kubernetes' projected ones, each of a service account and pod of its own, and P-256 requests. */
export async function makeFixtures(folder: string, options: FixtureOptions): Promise<Fixtures> {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const keys = {
    RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
    ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  };
  const jwks = await Promise.all(
    (['RS256', 'ES256'] as const).map(async (alg) => ({ ...(await exportJWK(keys[alg].publicKey)), kid: alg, alg, use: 'sig' })),
  );
  const jwksFile = join(folder, 'jwks.json');
  writeFileSync(jwksFile, JSON.stringify({ keys: jwks }));

  const tokens: string[] = [];
  for (let i = 0; i < options.tokens; i++) {
    const algorithm = options.algorithm === 'mixed' ? (i % 2 === 0 ? 'RS256' : 'ES256') : options.algorithm;
    tokens.push(await mintToken(i, options.audience, algorithm, keys[algorithm].privateKey));
  }
  const tokensFile = join(folder, 'tokens.txt');
  writeFileSync(tokensFile, `${tokens.join('\n')}\n`, { mode: 0o600 });

  const csrs: string[] = [];
  for (let i = 0; i < options.csrs; i++)
    csrs.push(pemEncode('CERTIFICATE REQUEST', createCsr(generateKeyPair(), [benchIdentity(i % options.tokens)])));
  const csrsFile = join(folder, 'csrs.json');
  writeFileSync(csrsFile, JSON.stringify(csrs));
  return { jwksFile, tokensFile, csrsFile };
}

function names(i: number): { namespace: string; account: string } {
  return { namespace: `ns-${String(i % 10)}`, account: `sa-${String(i)}` };
}

export function benchIdentity(i: number): string {
  const { namespace, account } = names(i);
  return `spiffe://cluster.local/ns/${namespace}/sa/${account}`;
}

function mintToken(i: number, audience: string, algorithm: string, key: KeyObject): Promise<string> {
  const { namespace, account } = names(i);
  return new SignJWT({
    'kubernetes.io': {
      namespace,
      node: { name: `node-${String(i % 20)}`, uid: randomUUID() },
      pod: { name: `${account}-0`, uid: randomUUID() },
      serviceaccount: { name: account, uid: randomUUID() },
    },
  })
    .setProtectedHeader({ alg: algorithm, kid: algorithm })
    .setIssuer(benchIssuer)
    .setSubject(`system:serviceaccount:${namespace}:${account}`)
    .setAudience([audience])
    .setIssuedAt()
    .setNotBefore('0s')
    .setExpirationTime('12h')
    .setJti(randomUUID())
    .sign(key);
}
