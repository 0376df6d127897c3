import { createHmac, randomBytes } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import forge from 'node-forge';
import { SignetError } from '../base/errors.ts';
import { tag } from './der-reader.ts';
import { der, oid, octetString, sequence, unsignedInteger } from './der-writer.ts';
import { sha256Hex } from './keys.ts';
import { pkcs12Oid } from './oids.ts';

/**
 * Key stores for Java and others that read PKCS#12 (RFC 7292). node-forge's own writer knows RSA keys alone and reads every
 * certificate through its RSA parser; here keys and certificates are opaque octets. Of forge it takes what Node lacks:
 * PKCS#12's own key derivation.
 */
export interface KeyStoreEntry {
  readonly key: KeyObject;
  /** DER, leaf first. */
  readonly chain: readonly [Buffer, ...Buffer[]];
  /** What Java calls the alias. */
  readonly name: string;
}

/**
 * As OpenSSL 3 writes it: PBES2 with HMAC-SHA256 and AES-256 for the key, HMAC-SHA256 over the whole. OpenSSL 1.1 and
 * JDK 8u301, 11.0.12 and later read it. Derivation in forge is JavaScript: 10,000 iterations, as Java has them, would hold
 * up every other workload of the process for 40 ms.
 */
const iterations = 2048;
const saltBytes = 20;
const macKeyBytes = 32;
/** RFC 7292 appendix B.3: the purpose of a derived key that is to be a MAC's. */
const macPurpose = 3;

/** A key with its chain. Certificates are not encrypted: they are public. Throws INVALID_ARGUMENT for a password that Java can't take. */
export function keyStore({ key, chain, name }: KeyStoreEntry, password: string): Buffer {
  checkPassword(password);
  const [leaf, ...others] = chain;
  // The same id on both says which certificate is the key's.
  const attributes = [friendlyName(name), attribute(pkcs12Oid.localKeyId, octetString(Buffer.from(sha256Hex(leaf), 'hex')))];
  const shrouded = bag(pkcs12Oid.shroudedKeyBag, encryptedKey(key, password), attributes);
  const certificates = [certificateBag(leaf, attributes), ...others.map((certificate) => certificateBag(certificate, []))];
  return pfx([safe([shrouded]), safe(certificates)], password);
}

/** Anchors alone, each marked as trusted the way Java wants it. Throws INVALID_ARGUMENT. */
export function trustStore(anchors: readonly Buffer[], password: string): Buffer {
  checkPassword(password);
  // Without Oracle's attribute, Java takes a certificate for a part of some chain and trusts nobody.
  const trusted = attribute(pkcs12Oid.oracleTrustedKeyUsage, oid(pkcs12Oid.anyExtendedKeyUsage));
  const bags = anchors.map((anchor) => certificateBag(anchor, [friendlyName(`ca-${sha256Hex(anchor).slice(0, 16)}`), trusted]));
  return pfx([safe(bags)], password);
}

/** Java derives keys from printable ASCII alone, and keytool refuses fewer than six characters. */
function checkPassword(password: string): void {
  if (!/^[\x20-\x7e]{6,1000}$/.test(password))
    throw new SignetError('INVALID_ARGUMENT', 'the password of a PKCS#12 file has 6 to 1000 characters of printable ASCII');
}

/** PFX (RFC 7292 §4): the safes, and a MAC over them by which a reader knows the right password. */
function pfx(safes: readonly Buffer[], password: string): Buffer {
  const authenticated = sequence(...safes);
  const salt = randomBytes(saltBytes);
  const derived = forge.pkcs12.generateKey(
    password,
    forge.util.createBuffer(salt.toString('binary')),
    macPurpose,
    iterations,
    macKeyBytes,
    forge.md.sha256.create(),
  );
  const mac = createHmac('sha256', Buffer.from(derived.getBytes(), 'binary')).update(authenticated).digest();
  const algorithm = sequence(oid(pkcs12Oid.sha256), der(tag.null));
  const macData = sequence(sequence(algorithm, octetString(mac)), octetString(salt), integer(iterations));
  return sequence(integer(3), data(authenticated), macData);
}

/** SafeContents as a ContentInfo of unencrypted data. */
function safe(bags: readonly Buffer[]): Buffer {
  return data(sequence(...bags));
}

function data(content: Buffer): Buffer {
  return sequence(oid(pkcs12Oid.data), explicit(octetString(content)));
}

function bag(type: string, value: Buffer, attributes: readonly Buffer[]): Buffer {
  return sequence(oid(type), explicit(value), ...(attributes.length === 0 ? [] : [der(tag.set, ...attributes)]));
}

function certificateBag(certificate: Buffer, attributes: readonly Buffer[]): Buffer {
  return bag(pkcs12Oid.certBag, sequence(oid(pkcs12Oid.x509Certificate), explicit(octetString(certificate))), attributes);
}

/** EncryptedPrivateKeyInfo of any kind of key. */
function encryptedKey(key: KeyObject, passphrase: string): Buffer {
  return key.export({ type: 'pkcs8', format: 'der', cipher: 'aes-256-cbc', passphrase });
}

function friendlyName(name: string): Buffer {
  // BMPString: UTF-16, most significant octet first.
  return attribute(pkcs12Oid.friendlyName, der(bmpString, Buffer.from(name, 'utf16le').swap16()));
}

const bmpString = 0x1e;

function attribute(type: string, value: Buffer): Buffer {
  return sequence(oid(type), der(tag.set, value));
}

function explicit(content: Buffer): Buffer {
  return der(0xa0, content);
}

function integer(value: number): Buffer {
  const octets = Buffer.alloc(4);
  octets.writeUInt32BE(value);
  return unsignedInteger(octets);
}
