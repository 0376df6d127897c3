import { createPrivateKey } from 'node:crypto';

/** How a private key was found in a recording. */
export type KeyForm = 'binary' | 'hex' | 'base64' | 'base64url' | 'pkcs8' | 'label';

/**
 * Looks for an EC private key in whatever was recorded: its scalar as octets, in hex, in base64 at each of the three
 * alignments (white space left out, as PEM has some), its PKCS#8, and the label of any PEM private key at all.
 */
export function findPrivateKey(recordings: readonly Buffer[], keyPem: string): ReadonlySet<KeyForm> {
  const key = createPrivateKey(keyPem);
  const { d } = key.export({ format: 'jwk' });
  if (!d) throw new Error('not an EC private key');
  const scalar = Buffer.from(d, 'base64url');
  const pkcs8 = key.export({ type: 'pkcs8', format: 'der' });
  const found = new Set<KeyForm>();
  for (const recording of recordings) {
    const text = recording.toString('latin1');
    const packed = text.replaceAll(/\s/g, '');
    if (recording.includes(scalar)) found.add('binary');
    if (packed.toLowerCase().includes(scalar.toString('hex'))) found.add('hex');
    for (const piece of alignments(scalar)) {
      if (packed.includes(piece)) found.add('base64');
      if (packed.includes(piece.replaceAll('+', '-').replaceAll('/', '_'))) found.add('base64url');
    }
    if (recording.includes(pkcs8) || packed.includes(pkcs8.toString('base64'))) found.add('pkcs8');
    if (text.includes('PRIVATE KEY')) found.add('label');
  }
  return found;
}

/** The base64 that the octets have in the midst of others, without the characters at the ends that the neighbours share. */
function alignments(octets: Buffer): string[] {
  return [0, 1, 2].map((before) => {
    const text = Buffer.concat([Buffer.alloc(before), octets])
      .toString('base64')
      .replace(/=+$/, '');
    const shared = (octets.length + before) % 3 === 0 ? 0 : 1;
    return text.slice(before === 0 ? 0 : before + 1, shared === 0 ? undefined : -shared);
  });
}

/** The PEM private keys that a recording holds in clear. */
export function privateKeysIn(recordings: readonly Buffer[]): readonly string[] {
  return recordings.flatMap(
    (recording) => recording.toString('latin1').match(/-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----\n?/g) ?? [],
  );
}
