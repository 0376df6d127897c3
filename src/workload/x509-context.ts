import { createPrivateKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { SignetError } from '../base/errors.ts';
import { readFields, textOf } from '../base/wire-reader.ts';
import { verifySvid } from '../x509/chain.ts';
import { DerReader, tag } from '../x509/der-reader.ts';
import { sha256Hex, spkiOf } from '../x509/keys.ts';
import { pemEncode } from '../x509/pem.ts';

/** One X.509 identity of this workload. */
export interface X509Svid {
  readonly spiffeId: string;
  /** DER, leaf first, then intermediates. */
  readonly certificates: readonly [Buffer, ...Buffer[]];
  readonly privateKey: KeyObject;
  /** What tells several identities apart; often empty. */
  readonly hint: string;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
  /** Lower-case hex. */
  readonly serialNumber: string;
}

/** Everything that the Workload API said last. A new object each time; nothing in it changes. */
export interface X509Context {
  /** The first is the default. */
  readonly svids: readonly [X509Svid, ...X509Svid[]];
  /** CA certificates (DER) by trust domain, `spiffe://td`: our own, and every federated one. */
  readonly bundles: ReadonlyMap<string, readonly Buffer[]>;
  /** DER. Handed on as they came: connections are not checked against them. */
  readonly crls: readonly Buffer[];
}

/** Field numbers, from proto/spiffe/workload.proto. */
const response = { svids: 1, crl: 2, federatedBundles: 3 } as const;
const svidField = { spiffeId: 1, chain: 2, key: 3, bundle: 4, hint: 5 } as const;

/** An X509SVIDResponse whose identities are good at a time in ms. Throws INVALID_ARGUMENT with nothing of the key in it. */
export function readX509Context(bytes: Buffer, at: number): X509Context {
  const messages: Buffer[] = [];
  const crls: Buffer[] = [];
  const bundles = new Map<string, readonly Buffer[]>();
  readFields(bytes, (field, value) => {
    if (typeof value === 'number') return;
    if (field === response.svids) messages.push(value);
    else if (field === response.crl) crls.push(Buffer.from(value));
    else if (field === response.federatedBundles) {
      const [trustDomain, certificates] = readBundle(value);
      bundles.set(trustDomain, certificates);
    }
  });
  const [first, ...rest] = messages.map((message) => readSvid(message, bundles, at));
  if (!first) throw malformed('it holds no identity');
  return { svids: [first, ...rest], bundles, crls };
}

function readBundle(entry: Buffer): readonly [string, readonly Buffer[]] {
  let trustDomain = '';
  let certificates: readonly Buffer[] = [];
  readFields(entry, (field, value) => {
    if (typeof value === 'number') return;
    if (field === 1) trustDomain = textOf(value) ?? '';
    else if (field === 2) certificates = certificatesIn(value);
  });
  return [trustDomain, certificates];
}

function readSvid(message: Buffer, bundles: Map<string, readonly Buffer[]>, at: number): X509Svid {
  let [claimed, hint] = ['', ''];
  const given: { chain?: Buffer; key?: Buffer; bundle?: Buffer } = {};
  readFields(message, (field, value) => {
    if (typeof value === 'number') return;
    if (field === svidField.spiffeId) claimed = textOf(value) ?? '';
    else if (field === svidField.hint) hint = textOf(value) ?? '';
    else if (field === svidField.chain) given.chain = value;
    else if (field === svidField.key) given.key = value;
    else if (field === svidField.bundle) given.bundle = value;
  });
  const [leaf, ...intermediates] = certificatesIn(given.chain);
  if (!leaf || !given.key) throw malformed('an identity without certificate or key');
  const anchors = certificatesIn(given.bundle);
  const { certificate, spiffeId } = verifySvid([leaf, ...intermediates], anchors, at);
  if (spiffeId !== claimed) throw malformed('a certificate is for another identity than it says');
  bundles.set(trustDomainName(spiffeId), anchors);
  const privateKey = readKey(given.key);
  if (sha256Hex(spkiOf(privateKey)) !== certificate.spkiSha256) throw malformed("a private key is not its certificate's");
  return {
    spiffeId,
    certificates: [leaf, ...intermediates],
    privateKey,
    hint,
    expiresAt: certificate.notAfter,
    serialNumber: certificate.serial,
  };
}

function readKey(pkcs8: Buffer): KeyObject {
  try {
    return createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' });
  } catch {
    // Not as a cause: nothing of a key gets into an error.
    throw malformed('a private key is not PKCS#8');
  }
}

/** Certificates one after the other. Copies, so that they hold on to no larger message. */
function certificatesIn(der: Buffer | undefined): Buffer[] {
  if (!der) return [];
  const reader = new DerReader(der, (what) => malformed(`certificates: ${what}`));
  const certificates: Buffer[] = [];
  while (reader.more()) certificates.push(Buffer.from(reader.element(tag.sequence)));
  return certificates;
}

/** `spiffe://td` of a SPIFFE ID. */
export function trustDomainName(spiffeId: string): string {
  const end = spiffeId.indexOf('/', 'spiffe://'.length);
  return end === -1 ? spiffeId : spiffeId.slice(0, end);
}

/** As node:tls takes certificates. */
export function certificatesPem(certificates: readonly Buffer[]): string {
  return certificates.map((der) => pemEncode('CERTIFICATE', der)).join('');
}

function malformed(what: string): SignetError {
  return new SignetError('INVALID_ARGUMENT', `what the Workload API sent is not usable: ${what}`);
}
