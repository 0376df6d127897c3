import { SignetError } from '../base/errors.ts';

export interface PemLimits {
  /** Of the whole text, in characters. */
  readonly maxCharacters: number;
  readonly maxBlocks: number;
}

/** A bundle of public roots has about 150 certificates in 250 KB. */
const certificateLimits: PemLimits = { maxCharacters: 1024 * 1024, maxBlocks: 500 };

const base64Body = /^[A-Za-z0-9+/]+={0,2}$/;

/** RFC 7468: 64 columns, a newline at the end. */
export function pemEncode(label: string, der: Uint8Array): string {
  const body = Buffer.from(der.buffer, der.byteOffset, der.byteLength).toString('base64');
  let text = `-----BEGIN ${label}-----\n`;
  for (let at = 0; at < body.length; at += 64) text += `${body.slice(at, at + 64)}\n`;
  return `${text}-----END ${label}-----\n`;
}

/**
 * The blocks of a text, each of which must have this label; text between blocks is skipped, as RFC 7468 §2 allows.
 * A block with another label is an error and not skipped: a private key among CA certificates is a mistake to hear about.
 * Throws TOO_LARGE, or INVALID_ARGUMENT with nothing of the text in it.
 */
export function pemDecode(text: string, label: string, limits: PemLimits): Buffer[] {
  if (text.length > limits.maxCharacters) throw new SignetError('TOO_LARGE', `more than ${String(limits.maxCharacters)} characters of PEM`);
  const begin = `-----BEGIN ${label}-----`;
  const end = `-----END ${label}-----`;
  const blocks: Buffer[] = [];
  let at = text.indexOf('-----BEGIN ');
  while (at >= 0) {
    if (!text.startsWith(begin, at))
      throw new SignetError('INVALID_ARGUMENT', `${labelAt(text, at)} found where only ${label} is expected`);
    if (blocks.length === limits.maxBlocks) throw new SignetError('TOO_LARGE', `more than ${String(limits.maxBlocks)} PEM blocks`);
    const bodyStart = at + begin.length;
    const bodyEnd = text.indexOf('-----', bodyStart);
    if (bodyEnd < 0 || !text.startsWith(end, bodyEnd)) throw new SignetError('INVALID_ARGUMENT', `a ${label} block of PEM has no end`);
    const body = text.slice(bodyStart, bodyEnd).replace(/[\r\n\t ]+/g, '');
    // Buffer.from skips what isn't base64, so it would take a corrupted file as a shorter one.
    if (body.length % 4 !== 0 || !base64Body.test(body)) throw new SignetError('INVALID_ARGUMENT', `a ${label} block of PEM is not base64`);
    blocks.push(Buffer.from(body, 'base64'));
    at = text.indexOf('-----BEGIN ', bodyEnd + end.length);
  }
  return blocks;
}

/** The DER of each certificate of a PEM text, in its order. At least one, and nothing else: throws INVALID_ARGUMENT or TOO_LARGE. */
export function certificatesFromPem(text: string): Buffer[] {
  const certificates = pemDecode(text, 'CERTIFICATE', certificateLimits);
  if (certificates.length === 0) throw new SignetError('INVALID_ARGUMENT', 'no certificate in the PEM text');
  return certificates;
}

/** The label alone, never the body: the block may be a private key. */
function labelAt(text: string, at: number): string {
  return /^-----BEGIN ([A-Z0-9 ]{1,40})-----/.exec(text.slice(at, at + 60))?.[1] ?? 'something else';
}
