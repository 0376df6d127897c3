import { SignetError } from '../base/errors.ts';
import { DerReader, tag } from './der-reader.ts';
import { bitString, der, octetString, oid, sequence } from './der-writer.ts';
import { encodeName } from './distinguished-name.ts';
import { basicConstraintsExtension, keyUsageExtension, subjectAltNameExtension } from './extensions.ts';
import { encodeUri, generalName, nameText, readGeneralNames } from './general-names.ts';
import { localSigner, type TbsSigner } from './issuing-ca.ts';
import { type KeyPair, parseSubjectKey, type SubjectKey } from './keys.ts';
import { extensionOid, extensionRequestOid } from './oids.ts';
import { pemDecode } from './pem.ts';
import { encodeSignatureAlgorithm, readSignatureAlgorithm, signatureHolds } from './signature.ts';

/** RSA-8192 with a 2,048-byte SPIFFE ID is under 5 KB. */
export const longestCsr = 16 * 1024;
const maxNames = 64;
const namesShown = 8;
const maxAttributes = 32;
const maxExtensions = 32;

/** A PKCS#10 request (RFC 2986) whose signature has been verified: its sender holds the private key. */
export interface CertificateRequest {
  readonly der: Buffer;
  readonly key: SubjectKey;
  /** URI SANs asked for, as they stand; not yet judged as SPIFFE IDs. */
  readonly uris: readonly string[];
  /** Other SANs asked for as `DNS:x`, `IP:x` or `other:[n]`, cut short: for messages. Any entry means that more than URIs was asked for. */
  readonly otherNames: readonly string[];
}

/**
 * Parses a CSR (DER, or exactly one PEM block) in one pass and verifies its proof of possession. The subject is ignored,
 * as is every extension but the names and a wish to be a CA, which is refused unless that is what is expected (`ofCa`): what
 * a certificate holds is ours to say.
 * Throws TOO_LARGE or INVALID_CSR.
 */
export function parseCsr(input: Buffer | string, options: { readonly ofCa?: boolean } = {}): CertificateRequest {
  if (input.length > longestCsr) throw new SignetError('TOO_LARGE', `the CSR is larger than ${String(longestCsr)} bytes`);
  const bytes = typeof input === 'string' ? fromPem(input) : input[0] === tag.sequence ? input : fromPem(input.toString('latin1'));
  const outer = new DerReader(bytes, refuse);
  const request = outer.enter(tag.sequence);
  outer.finish();
  const info = request.element(tag.sequence);
  const algorithm = readSignatureAlgorithm(request, refuse);
  const signature = request.octetsOfBits();
  request.finish();

  const body = new DerReader(info, refuse).enter(tag.sequence);
  if (body.smallInteger() !== 0) throw refuse('its version is not 1');
  body.skip(tag.sequence);
  const spki = body.element(tag.sequence);
  const names: RequestedNames = { uris: [], otherNames: [] };
  // OpenSSL leaves the attributes out in old versions when there are none; RFC 2986 does not, and we take both.
  if (body.more()) readAttributes(body.enter(0xa0), names, options.ofCa === true);
  body.finish();

  const key = parseSubjectKey(spki);
  if (!signatureHolds(algorithm, info, key.publicKey, signature)) throw refuse('its signature is not by the key in it');
  return { der: bytes, key, uris: names.uris, otherNames: names.otherNames };
}

/** A CSR by this key with an empty subject and these URI SANs, in DER. */
export function createCsr(key: Pick<KeyPair, 'privateKey' | 'spki'>, uris: readonly string[]): Buffer {
  // RFC 5280 §4.2.1.6: with an empty subject the names are critical.
  const extensions = sequence(
    sequence(oid(extensionOid.subjectAltName), der(tag.boolean, Buffer.of(0xff)), octetString(sequence(...uris.map(encodeUri)))),
  );
  const attributes = uris.length === 0 ? der(0xa0) : der(0xa0, sequence(oid(extensionRequestOid), der(tag.set, extensions)));
  const info = sequence(der(tag.integer, Buffer.of(0)), sequence(), key.spki, attributes);
  const signer = localSigner(key.privateKey);
  return sequence(info, encodeSignatureAlgorithm(signer.algorithm), bitString(signer.sign(info)));
}

/**
 * A CSR for an intermediate of ours, in DER: its extensions say what it has to become, for those who copy them. The signer
 * may be elsewhere. `uri` is the trust domain's (SPIFFE X509-SVID §4.2).
 */
export async function createCaCsr(
  request: {
    readonly spki: Buffer;
    readonly signer: TbsSigner;
    readonly organization: string;
    readonly commonName: string;
    readonly uri: string;
  },
  signal: AbortSignal,
): Promise<Buffer> {
  const { spki, signer } = request;
  const extensions = sequence(
    keyUsageExtension('keyCertSign', 'cRLSign'),
    basicConstraintsExtension({ pathLength: 0 }),
    subjectAltNameExtension(false, [encodeUri(request.uri)]),
  );
  const info = sequence(
    der(tag.integer, Buffer.of(0)),
    encodeName(request.organization, request.commonName),
    spki,
    der(0xa0, sequence(oid(extensionRequestOid), der(tag.set, extensions))),
  );
  return sequence(info, encodeSignatureAlgorithm(signer.algorithm), bitString(await signer.sign(info, signal)));
}

interface RequestedNames {
  readonly uris: string[];
  readonly otherNames: string[];
}

function readAttributes(attributes: DerReader, names: RequestedNames, ofCa: boolean): void {
  let seen = false;
  for (let count = 0; attributes.more(); count++) {
    if (count === maxAttributes) throw refuse('too many attributes');
    const attribute = attributes.enter(tag.sequence);
    const type = attribute.oid();
    const values = attribute.enter(tag.set);
    attribute.finish();
    if (type !== extensionRequestOid) continue;
    // Two places for names are one too many: checker and signer must not look at different ones.
    if (seen) throw refuse('it has two extension requests');
    seen = true;
    readExtensions(values.enter(tag.sequence), names, ofCa);
    values.finish();
  }
}

function readExtensions(extensions: DerReader, names: RequestedNames, ofCa: boolean): void {
  let named = false;
  for (let count = 0; extensions.more(); count++) {
    if (count === maxExtensions) throw refuse('too many extensions');
    const extension = extensions.enter(tag.sequence);
    const id = extension.oid();
    if (extension.peek() === tag.boolean) extension.boolean();
    const value = extension.enter(tag.octetString);
    extension.finish();
    if (id === extensionOid.subjectAltName) {
      if (named) throw refuse('it has two subject alternative names extensions');
      named = true;
      readGeneralNames(value.enter(tag.sequence), maxNames, (kind, content) => {
        if (kind === generalName.uri) names.uris.push(content.toString('latin1'));
        else if (names.otherNames.length < namesShown) names.otherNames.push(nameText(kind, content));
      });
      value.finish();
    } else if (id === extensionOid.basicConstraints) {
      const constraints = value.enter(tag.sequence);
      if (!ofCa && constraints.peek() === tag.boolean && constraints.boolean()) throw refuse('it asks to be a CA');
    }
  }
}

function fromPem(text: string): Buffer {
  let blocks: Buffer[];
  try {
    // OpenSSL has written both labels.
    const label = text.includes('-----BEGIN NEW CERTIFICATE REQUEST-----') ? 'NEW CERTIFICATE REQUEST' : 'CERTIFICATE REQUEST';
    blocks = pemDecode(text, label, { maxCharacters: longestCsr, maxBlocks: 2 });
  } catch (error) {
    throw refuse('it is neither DER nor a PEM CERTIFICATE REQUEST', error);
  }
  const [block, second] = blocks;
  if (!block || second) throw refuse('exactly one CERTIFICATE REQUEST is expected');
  return block;
}

function refuse(what: string, cause?: unknown): SignetError {
  return new SignetError('INVALID_CSR', `the CSR is not acceptable: ${what}`, { cause });
}
