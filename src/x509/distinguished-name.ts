import { isUtf8 } from 'node:buffer';
import { SignetError } from '../base/errors.ts';
import { DerReader, tag } from './der-reader.ts';
import { der, oid, sequence, utf8String } from './der-writer.ts';
import { attributeNames, attributeOid } from './oids.ts';

/** RFC 5280 appendix A.1: ub-common-name and ub-organization-name. */
const longestValue = 64;
const longestText = 400;
const mostAttributes = 32;
/** UTF8String, PrintableString, IA5String. */
const textTags: ReadonlySet<number> = new Set([0x0c, 0x13, 0x16]);

/** A Name of an organization and a common name. Throws INVALID_ARGUMENT if one is empty or longer than 64 characters. */
export function encodeName(organization: string, commonName: string): Buffer {
  return sequence(attribute(attributeOid.organization, organization), attribute(attributeOid.commonName, commonName));
}

/**
 * The attributes of a DER Name by their short names (CN, O, OU, C, L, ST, DC, serialNumber), each one's text; those that
 * occur more than once are left out, and so are others than text in ASCII or UTF-8. Throws INVALID_ARGUMENT.
 */
export function nameAttributes(name: Buffer): Readonly<Record<string, string>> {
  const found = new Map<string, string | undefined>();
  const sets = new DerReader(name, (what) => new SignetError('INVALID_ARGUMENT', what)).enter(tag.sequence);
  for (let count = 0; sets.more(); ) {
    const pairs = sets.enter(tag.set);
    while (pairs.more()) {
      if (++count > mostAttributes) throw new SignetError('INVALID_ARGUMENT', 'a name of too many attributes');
      const pair = pairs.enter(tag.sequence);
      const short = attributeNames.get(pair.oid());
      const kind = pair.peek();
      const content = pair.content(kind);
      pair.finish();
      if (short === undefined) continue;
      const text = textTags.has(kind) && isUtf8(content) ? content.toString('utf8') : undefined;
      found.set(short, found.has(short) ? undefined : text);
    }
  }
  return Object.fromEntries([...found].flatMap(([short, text]) => (text === undefined ? [] : [[short, text]])));
}

/** A DER Name for people, in its own order: `O=Example, CN=Root 1`. Of bounded length, never throws. */
export function distinguishedNameText(name: Buffer): string {
  const parts: string[] = [];
  try {
    const sets = new DerReader(name, (what) => new SignetError('INVALID_ARGUMENT', what)).enter(tag.sequence);
    while (sets.more() && parts.length < 20) {
      const pairs = sets.enter(tag.set);
      while (pairs.more() && parts.length < 20) {
        const pair = pairs.enter(tag.sequence);
        const type = pair.oid();
        const text = pair.content(pair.peek()).toString('utf8');
        parts.push(`${attributeNames.get(type) ?? type}=${printable(text)}`);
      }
    }
  } catch {
    parts.push('(unreadable)');
  }
  return parts.join(', ').slice(0, longestText);
}

function attribute(type: string, value: string): Buffer {
  if (value === '' || value.length > longestValue) {
    throw new SignetError('INVALID_ARGUMENT', `a name in a certificate has 1 to ${String(longestValue)} characters`);
  }
  return der(tag.set, sequence(oid(type), utf8String(value)));
}

/** Names come from others' certificates and end up on terminals. */
function printable(text: string): string {
  return text.replace(/[^\x20-\x7e\u00a0-\ud7ff]/g, '?').slice(0, 100);
}
