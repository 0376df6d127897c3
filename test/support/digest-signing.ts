import { generateKeyPairSync } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { runProgram } from './process.ts';
import { tempFolder } from './temp.ts';
import type { TempFolder } from './temp.ts';

export type CaKeyKind = 'ec-p256' | 'ec-p384' | 'rsa-3072';

/** A private key that signs digests, as a KMS does: node:crypto has no way to sign what is hashed already, OpenSSL has. */
export interface DigestKey {
  readonly publicKey: KeyObject;
  /** ECDSA in DER, RSA by PKCS#1 v1.5. */
  sign(digest: Buffer, algorithm: 'sha256' | 'sha384'): Promise<Buffer>;
}

export interface DigestKeys extends AsyncDisposable {
  make(kind: CaKeyKind): Promise<DigestKey>;
}

export async function digestKeys(): Promise<DigestKeys> {
  const folder = await tempFolder();
  let made = 0;
  return {
    async make(kind) {
      const { privateKey, publicKey } =
        kind === 'rsa-3072'
          ? generateKeyPairSync('rsa', { modulusLength: 3072 })
          : generateKeyPairSync('ec', { namedCurve: kind === 'ec-p256' ? 'P-256' : 'P-384' });
      const file = folder.file(`${String(made++)}.pem`);
      await writeFile(file, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
      return { publicKey, sign: (digest, algorithm) => signDigest(folder, file, digest, algorithm) };
    },
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

let signatures = 0;

async function signDigest(folder: TempFolder, key: string, digest: Buffer, algorithm: string): Promise<Buffer> {
  const [input, output] = [folder.file(`${String(signatures)}.digest`), folder.file(`${String(signatures++)}.signature`)];
  await writeFile(input, digest);
  const ran = await runProgram('openssl', [
    'pkeyutl',
    '-sign',
    '-inkey',
    key,
    '-in',
    input,
    '-out',
    output,
    '-pkeyopt',
    `digest:${algorithm}`,
  ]);
  if (ran.code !== 0) throw new Error(`openssl pkeyutl: ${ran.stderr}`);
  const signature = await readFile(output);
  await Promise.all([rm(input), rm(output)]);
  return signature;
}
