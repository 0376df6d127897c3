import { createPrivateKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { open } from 'node:fs/promises';
import { SignetError } from '../../base/errors.ts';
import type { TrustDomain } from '../../spiffe/id.ts';
import { parseCertificate } from '../../x509/certificate.ts';
import type { Certificate } from '../../x509/certificate.ts';
import { verifyChain } from '../../x509/chain.ts';
import { localSigner } from '../../x509/issuing-ca.ts';
import type { TbsSigner } from '../../x509/issuing-ca.ts';
import { spkiOf } from '../../x509/keys.ts';
import { createLeafIssuer } from '../../x509/leaf.ts';
import type { LeafIssuer } from '../../x509/leaf.ts';
import { certificatesFromPem } from '../../x509/pem.ts';
import type { ActiveCa } from '../leaf-signing.ts';
import type { Signer } from '../signer.ts';

/** Paths of PEM files of certificates. */
export interface CaCertificateFiles {
  readonly rootFile: string;
  /** The signing CA first, then those between it and the root, if any. */
  readonly intermediateFile?: string | undefined;
}

/** PKCS#8, also encrypted, or the older forms that OpenSSL writes. */
export interface CaKeyFile {
  readonly keyFile: string;
  readonly passphrase?: string | undefined;
}

/** The key is the intermediate's if there is an intermediate, else the root's: in a file, or with a custodian. */
export type CaFiles = CaCertificateFiles & (CaKeyFile | { readonly signer: Signer });

export interface LoadedCa extends ActiveCa {
  readonly root: Buffer;
  readonly warnings: readonly string[];
}

const largestFile = 256 * 1024;

/** Reads and verifies everything that signing will rest on. Throws AUTHORITY_MISCONFIGURED naming the file, or KEY_UNSEALABLE. */
export async function loadCaFiles(files: CaFiles, trustDomain: TrustDomain, now: number): Promise<LoadedCa> {
  const { rootFile, intermediateFile } = files;
  const { root, intermediates } = await loadCaCertificates(files, trustDomain, now);
  const signing = intermediates[0] ?? root;
  const { signer, spki, where, warnings } = 'signer' in files ? heldElsewhere(files.signer) : await keyInFile(files);
  if (!spki.equals(signing.spki))
    throw misconfigured(where, `it is not the key of ${signing.subjectText} in ${intermediateFile ?? rootFile}`);
  return {
    root: root.der,
    issuer: leafIssuer(where, signing, signer),
    intermediates: intermediates.map(({ der }) => der),
    issuersEnd: Math.min(...[...intermediates, root].map(({ notAfter }) => notAfter)),
    warnings,
  };
}

/** A CA's key, ready to sign, wherever it is. */
export interface SigningKey {
  readonly signer: TbsSigner;
  readonly spki: Buffer;
  /** For messages. */
  readonly where: string;
  readonly warnings: readonly string[];
}

function heldElsewhere(signer: Signer): SigningKey {
  return { signer, spki: signer.spki, where: signer.location, warnings: [] };
}

/** Throws AUTHORITY_MISCONFIGURED naming the file, or KEY_UNSEALABLE. */
export async function keyInFile({ keyFile, passphrase }: CaKeyFile): Promise<SigningKey> {
  const read = await readBounded(keyFile);
  const key = openKey(keyFile, read.text, passphrase);
  const warnings = isOpenToOthers(read) ? [`${keyFile} is not encrypted and others than its owner may read it: chmod 600 ${keyFile}`] : [];
  return { signer: signerBy(keyFile, key), spki: spkiOf(key), where: keyFile, warnings };
}

export interface CaCertificates {
  readonly root: Certificate;
  /** The signing CA first; none if the root signs. */
  readonly intermediates: readonly Certificate[];
}

/** Reads the certificates and verifies that they are a CA's of this trust domain. Throws AUTHORITY_MISCONFIGURED naming the file. */
export async function loadCaCertificates(files: CaCertificateFiles, trustDomain: TrustDomain, now: number): Promise<CaCertificates> {
  const { rootFile, intermediateFile } = files;
  const [root, second] = certificates(rootFile, (await readBounded(rootFile)).text);
  if (!root || second) throw misconfigured(rootFile, 'it must hold exactly one certificate, the root');
  const intermediates = intermediateFile === undefined ? [] : certificates(intermediateFile, (await readBounded(intermediateFile)).text);

  checkRoot(rootFile, root, now);
  if (intermediateFile !== undefined) checkIntermediates(intermediateFile, intermediates, root, now);
  for (const certificate of [...intermediates, root])
    checkTrustDomain(certificate === root ? rootFile : (intermediateFile ?? rootFile), certificate, trustDomain);
  return { root, intermediates };
}

interface ReadFile {
  readonly text: string;
  readonly mode: number;
}

async function readBounded(path: string): Promise<ReadFile> {
  try {
    await using file = await open(path, 'r');
    const { size, mode } = await file.stat();
    if (size > largestFile) throw misconfigured(path, `it is larger than ${String(largestFile)} bytes`);
    return { text: await file.readFile('utf8'), mode };
  } catch (error) {
    if (error instanceof SignetError) throw error;
    const reason = error instanceof Error && 'code' in error ? String(error.code) : 'unknown reason';
    throw misconfigured(path, `it can't be read (${reason})`, error);
  }
}

function certificates(path: string, text: string): Certificate[] {
  try {
    return certificatesFromPem(text).map(parseCertificate);
  } catch (error) {
    throw misconfigured(path, error instanceof SignetError ? error.message : 'it holds no certificate', error);
  }
}

/** A chain of the root alone: its own signature, its CA bits and its dates. */
function checkRoot(path: string, root: Certificate, now: number): void {
  if (!root.subject.equals(root.issuer))
    throw misconfigured(path, `${root.subjectText} is not self-signed: give the root here and the intermediate as intermediateFile`);
  checkCa(path, root, now);
  try {
    verifyChain([root.der], [root.der], now);
  } catch (error) {
    throw misconfigured(path, verdict(error), error);
  }
}

function checkIntermediates(path: string, intermediates: readonly Certificate[], root: Certificate, now: number): void {
  for (const certificate of intermediates) {
    if (certificate.der.equals(root.der)) throw misconfigured(path, 'it holds the root; the root belongs into rootFile alone');
    checkCa(path, certificate, now);
  }
  try {
    verifyChain(
      intermediates.map(({ der }) => der),
      [root.der],
      now,
    );
  } catch (error) {
    throw misconfigured(path, `it does not lead to the root: ${verdict(error)}`, error);
  }
}

function checkCa(path: string, { isCa, keyUsage, subjectText, notBefore, notAfter }: Certificate, now: number): void {
  if (!isCa || keyUsage?.has('keyCertSign') !== true) throw misconfigured(path, `${subjectText} is not a CA that may sign certificates`);
  if (now < notBefore) throw misconfigured(path, `${subjectText} is not valid before ${new Date(notBefore).toISOString()}`);
  if (now > notAfter) throw misconfigured(path, `${subjectText} ended at ${new Date(notAfter).toISOString()}`);
}

/** SPIFFE X509-SVID §4.2: a signing certificate may name its trust domain, and nothing else. */
function checkTrustDomain(path: string, { uris, subjectText }: Certificate, trustDomain: TrustDomain): void {
  const other = uris.find((uri) => uri.startsWith('spiffe://') && uri !== `spiffe://${trustDomain}`);
  if (other !== undefined) throw misconfigured(path, `${subjectText} is of ${other.slice(0, 300)}, not of spiffe://${trustDomain}`);
}

function openKey(path: string, text: string, passphrase: string | undefined): KeyObject {
  const encrypted = isEncrypted(text);
  if (encrypted && passphrase === undefined) {
    throw new SignetError('KEY_UNSEALABLE', `the key in ${path} is encrypted, and no passphrase is configured for it`);
  }
  try {
    return createPrivateKey(encrypted && passphrase !== undefined ? { key: text, passphrase } : { key: text });
  } catch (error) {
    if (encrypted)
      throw new SignetError('KEY_UNSEALABLE', `the key in ${path} can't be decrypted: the passphrase is wrong`, { cause: error });
    throw misconfigured(path, 'it holds no private key in PEM', error);
  }
}

function signerBy(path: string, key: KeyObject): TbsSigner {
  try {
    return localSigner(key);
  } catch (error) {
    throw misconfigured(path, verdict(error), error);
  }
}

function leafIssuer(path: string, { der }: Certificate, signer: TbsSigner): LeafIssuer {
  try {
    return createLeafIssuer({ certificate: der, signer });
  } catch (error) {
    throw misconfigured(path, verdict(error), error);
  }
}

/** PKCS#8 (RFC 5958 §3) says so in its label, the older PEM in a header. */
function isEncrypted(text: string): boolean {
  return text.includes('-----BEGIN ENCRYPTED PRIVATE KEY-----') || text.includes('Proc-Type: 4,ENCRYPTED');
}

function isOpenToOthers({ text, mode }: ReadFile): boolean {
  return (mode & 0o077) !== 0 && !isEncrypted(text);
}

function verdict(error: unknown): string {
  return error instanceof SignetError ? error.message : 'it does not verify';
}

function misconfigured(path: string, what: string, cause?: unknown): SignetError {
  return new SignetError('AUTHORITY_MISCONFIGURED', `${path}: ${what}`, { cause });
}
