import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  randomBytes,
  sign as signBytes,
  X509Certificate,
} from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bitString, boolean, der, integer, octetString, oid, sequence, set, time, utf8String } from './der.ts';

/**
 * The part to replace: a root and its key in a folder, made at the first start. Yours will ask a CA that you have; what it must
 * return is the same.
 */
export interface Ca {
  /** DER of the self-signed certificates that leaves chain to. */
  readonly anchors: readonly Buffer[];
  /** In ms since the epoch: no certificate that is signed now can live longer. */
  readonly ends: number;
  sign(request: LeafRequest): Promise<readonly Buffer[]>;
}

export interface LeafRequest {
  /** DER of SubjectPublicKeyInfo. */
  readonly publicKey: Buffer;
  readonly spiffeId: string;
  /** In ms since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
}

const rootLifeMs = 3650 * 86_400_000;
const ecdsaWithSha256 = sequence(oid('1.2.840.10045.4.3.2'));

export function openCa(folder: string, trustDomain: string): Ca {
  const keyFile = join(folder, 'key.pem');
  const rootFile = join(folder, 'root.pem');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (!existsSync(rootFile)) {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    writeFileSync(keyFile, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
    writeFileSync(rootFile, new X509Certificate(makeRoot(privateKey, trustDomain)).toString());
  }
  const key = createPrivateKey(readFileSync(keyFile));
  const root = new X509Certificate(readFileSync(rootFile));
  if (root.subjectAltName !== `URI:spiffe://${trustDomain}`)
    throw new Error(`the CA in ${folder} is for another trust domain than ${trustDomain}`);
  const ends = Date.parse(root.validTo);
  return {
    anchors: [root.raw],
    ends,
    sign({ publicKey, spiffeId, notBefore, notAfter }) {
      const leaf = certificate(key, {
        issuer: nameOf(trustDomain, key),
        // RFC 5280 §4.1.2.6: the names are critical then.
        subject: sequence(),
        publicKey,
        notBefore,
        notAfter: Math.min(notAfter, ends),
        extensions: [
          extension('2.5.29.15', true, bitString(Buffer.of(0x80), 7)), // digitalSignature
          extension('2.5.29.37', false, sequence(oid('1.3.6.1.5.5.7.3.1'), oid('1.3.6.1.5.5.7.3.2'))), // TLS server and client
          extension('2.5.29.19', true, sequence()), // no CA
          extension('2.5.29.14', false, octetString(keyId(publicKey))),
          extension('2.5.29.35', false, sequence(der(0x80, keyId(spkiOf(key))))),
          extension('2.5.29.17', true, sequence(der(0x86, Buffer.from(spiffeId)))), // the one URI
        ],
      });
      return Promise.resolve([leaf]);
    },
  };
}

function makeRoot(key: KeyObject, trustDomain: string): Buffer {
  const name = nameOf(trustDomain, key);
  const now = Date.now();
  return certificate(key, {
    issuer: name,
    subject: name,
    publicKey: spkiOf(key),
    notBefore: now - 3_600_000,
    notAfter: now + rootLifeMs,
    extensions: [
      extension('2.5.29.15', true, bitString(Buffer.of(0x06), 1)), // keyCertSign, cRLSign
      extension('2.5.29.19', true, sequence(boolean(true), integer(Buffer.of(0)))), // a CA of leaves alone
      extension('2.5.29.14', false, octetString(keyId(spkiOf(key)))),
      extension('2.5.29.17', false, sequence(der(0x86, Buffer.from(`spiffe://${trustDomain}`)))),
    ],
  });
}

interface Fields {
  readonly issuer: Buffer;
  readonly subject: Buffer;
  readonly publicKey: Buffer;
  readonly notBefore: number;
  readonly notAfter: number;
  readonly extensions: readonly Buffer[];
}

/** RFC 5280 §4.1. */
function certificate(key: KeyObject, fields: Fields): Buffer {
  const toBeSigned = sequence(
    der(0xa0, integer(Buffer.of(2))), // version 3
    integer(Buffer.concat([Buffer.of(0x40), randomBytes(15)])),
    ecdsaWithSha256,
    fields.issuer,
    sequence(time(fields.notBefore), time(fields.notAfter)),
    fields.subject,
    fields.publicKey,
    der(0xa3, sequence(...fields.extensions)),
  );
  return sequence(toBeSigned, ecdsaWithSha256, bitString(signBytes('sha256', toBeSigned, key)));
}

function extension(id: string, critical: boolean, value: Buffer): Buffer {
  return sequence(oid(id), ...(critical ? [boolean(true)] : []), octetString(value));
}

/** A name of its own for each key, so that an old root and a new one are never confused. */
function nameOf(trustDomain: string, key: KeyObject): Buffer {
  const commonName = `${trustDomain} root ${keyId(spkiOf(key)).toString('hex').slice(0, 8)}`;
  return sequence(set(sequence(oid('2.5.4.3'), utf8String(commonName))));
}

/** RFC 7093 §2, method 4. */
function keyId(spki: Buffer): Buffer {
  return createHash('sha256').update(spki).digest().subarray(0, 20);
}

function spkiOf(key: KeyObject): Buffer {
  return createPublicKey(key).export({ type: 'spki', format: 'der' });
}
