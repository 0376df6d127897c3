import { createPublicKey, type KeyObject } from 'node:crypto';
import { SignetError } from '../base/errors.ts';
import { importPrivateKey, privateKeyPem, sha256Hex } from './keys.ts';
import type { CheckedAnchors, CheckedChain, CheckedIdentity } from './material.ts';
import { type CaCertificate, caCertificate, issuedFault, pathError } from './path.ts';
import { pemEncode } from './pem.ts';
import { isAcceptedSignature } from './signature.ts';

const maxAnchors = 500;
/** A directory of at most 200 octets, a slash, 64 hex digits and `.key`. */
const longestKeyFile = 269;

/**
 * CA certificates (DER) as Envoy's `trusted_ca`: what it would take and then fail every handshake on (a leaf, a CA that
 * may not sign, a weak key) is refused, copies collapse, and the order is that of the bytes. Expired ones stay, since
 * they do no harm and time alone must not change the bytes; but one must be valid at `at` (ms). Throws INVALID_ARGUMENT.
 */
export function checkAnchors(certificates: readonly Buffer[], at: number): CheckedAnchors {
  if (certificates.length > maxAnchors) throw new SignetError('INVALID_ARGUMENT', `more than ${String(maxAnchors)} CA certificates`);
  const sorted = [...certificates].sort((a, b) => a.compare(b)).filter((der, i, all) => i === 0 || all[i - 1]?.equals(der) !== true);
  const anchors = sorted.map((der) => caCertificate(der));
  for (const anchor of anchors) checkOwnSignature(anchor);
  const [first, ...rest] = sorted;
  if (!first) throw new SignetError('INVALID_ARGUMENT', 'a trust bundle needs at least one CA certificate');
  if (!anchors.some(({ certificate }) => certificate.notBefore <= at && at <= certificate.notAfter)) {
    throw new SignetError('INVALID_ARGUMENT', 'none of the CA certificates is valid now');
  }
  const checked = { certificates: [first, ...rest] as const, pem: sorted.map((der) => pemEncode('CERTIFICATE', der)).join('') };
  return checked as unknown as CheckedAnchors;
}

/**
 * Chain and key as Envoy's `tls_certificate`. An inline key must be the leaf's; a file (a path on Envoy's host) must
 * be named after the leaf's key, so that chain and key switch together. Throws INVALID_ARGUMENT with nothing of the key in it.
 */
export function checkIdentity(
  chain: CheckedChain,
  key: { readonly inline: KeyObject | string } | { readonly file: string },
): CheckedIdentity {
  const checked = { chain, key: 'file' in key ? { file: checkKeyFile(chain, key.file) } : { inline: checkInlineKey(chain, key.inline) } };
  return checked as unknown as CheckedIdentity;
}

function checkInlineKey(chain: CheckedChain, inline: KeyObject | string): string {
  const key = typeof inline === 'string' ? importPrivateKey(inline) : inline;
  if (key.type !== 'private') throw new SignetError('INVALID_ARGUMENT', 'not a private key');
  const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
  if (sha256Hex(spki) !== chain.spkiSha256) throw new SignetError('INVALID_ARGUMENT', "the private key is not that of the chain's leaf");
  return privateKeyPem(key);
}

function checkKeyFile(chain: CheckedChain, file: string): string {
  const segments = file.split('/');
  const name = segments.pop();
  const [root, ...folders] = segments;
  const clean =
    root === '' && folders.length > 0 && folders.every((folder) => /^[A-Za-z0-9._-]+$/.test(folder) && folder !== '.' && folder !== '..');
  if (!clean || file.length > longestKeyFile)
    throw new SignetError('INVALID_ARGUMENT', 'a key file is an absolute path of [A-Za-z0-9._/-] without . and ..');
  if (name !== `${chain.spkiSha256}.key`) throw new SignetError('INVALID_ARGUMENT', "the key file is not named after the chain's key");
  return file;
}

/** A root that does not verify under its own key is damaged. RFC 5280 trusts the key alone, but a damaged file should be heard about. */
function checkOwnSignature(anchor: CaCertificate): void {
  const { certificate } = anchor;
  const selfIssued = certificate.subject.equals(certificate.issuer);
  // Old and new key of one name may certify each other (RFC 4210 §4.4): those are not self-signed.
  const otherKey = certificate.authorityKeyId !== undefined && certificate.authorityKeyId !== certificate.subjectKeyId;
  if (!selfIssued || otherKey || !isAcceptedSignature(certificate.signatureAlgorithm)) return;
  const fault = issuedFault(certificate, anchor, false);
  if (fault !== undefined) throw pathError(certificate, fault);
}
