import { isIP } from 'node:net';
import { SignetError } from '../base/errors.ts';
import type { DerReader } from './der-reader.ts';
import { der } from './der-writer.ts';

/** GeneralName's context tags (RFC 5280 §4.2.1.6), primitive but for otherName, x400Address, directoryName and ediPartyName. */
export const generalName = { email: 0x81, dns: 0x82, uri: 0x86, ip: 0x87 } as const;

const longestShown = 60;

/** Calls `take` with tag octet and content of each name. At least one, at most `max`; strings must be printable ASCII and not empty. */
export function readGeneralNames(names: DerReader, max: number, take: (kind: number, content: Buffer) => void): void {
  if (!names.more()) throw names.malformed('an empty list of names');
  for (let count = 0; names.more(); count++) {
    if (count === max) throw names.malformed(`more than ${String(max)} names`);
    const kind = names.peek();
    if ((kind & 0xc0) !== 0x80 || (kind & 0x1f) > 8) throw names.malformed('a name of an unknown form');
    const content = names.content(kind);
    const isText = kind === generalName.uri || kind === generalName.dns || kind === generalName.email;
    // A NUL inside a name has made a verifier and a CA read two different names before.
    if (isText && !isPrintable(content)) throw names.malformed('a name that is empty or has characters outside printable ASCII');
    if (kind === generalName.ip && content.length !== 4 && content.length !== 16) throw names.malformed('an IP address of an odd length');
    take(kind, content);
  }
}

/** A name for people, of bounded length, printable ASCII only. */
export function nameText(kind: number, content: Buffer): string {
  const text = content.toString('latin1', 0, longestShown) + (content.length > longestShown ? '...' : '');
  switch (kind) {
    case generalName.dns:
      return `DNS:${text}`;
    case generalName.email:
      return `email:${text}`;
    case generalName.uri:
      return `URI:${text}`;
    case generalName.ip:
      return `IP:${ipText(content)}`;
    default:
      return `other:[${String(kind & 0x1f)}]`;
  }
}

export function ipText(content: Buffer): string {
  if (content.length === 4) return content.join('.');
  const groups: string[] = [];
  for (let at = 0; at + 2 <= content.length; at += 2) groups.push(content.readUInt16BE(at).toString(16));
  return groups.join(':');
}

export function encodeUri(uri: string): Buffer {
  return der(generalName.uri, printable(uri));
}

export function encodeDns(name: string): Buffer {
  if (!/^(?:\*\.)?[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*$/.test(name) || name.length > 253) {
    throw new SignetError('INVALID_ARGUMENT', `"${name.slice(0, longestShown)}" is not a DNS name`);
  }
  return der(generalName.dns, Buffer.from(name, 'latin1'));
}

export function encodeIp(address: string): Buffer {
  const family = isIP(address);
  if (family === 4) return der(generalName.ip, Buffer.from(address.split('.').map(Number)));
  if (family !== 6 || address.includes('%'))
    throw new SignetError('INVALID_ARGUMENT', `"${address.slice(0, longestShown)}" is not an IP address`);
  // The URL parser writes any form of IPv6, an embedded IPv4 included, as hex groups with at most one `::`.
  const [head = '', tail] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const octets = Buffer.alloc(16);
  before.forEach((group, i) => octets.writeUInt16BE(Number.parseInt(group, 16), 2 * i));
  after.forEach((group, i) => octets.writeUInt16BE(Number.parseInt(group, 16), 16 - 2 * (after.length - i)));
  return der(generalName.ip, octets);
}

function printable(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8');
  if (!isPrintable(bytes)) throw new SignetError('INVALID_ARGUMENT', 'a URI outside printable ASCII');
  return bytes;
}

function isPrintable(content: Buffer): boolean {
  for (const octet of content) if (octet < 0x21 || octet > 0x7e) return false;
  return content.length > 0;
}
