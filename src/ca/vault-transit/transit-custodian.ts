import { createPublicKey, hash } from 'node:crypto';
import { z } from 'zod';
import { SignetError } from '../../base/errors.ts';
import { parseSubjectKey } from '../../x509/keys.ts';
import type { Custodian, Signer, SignerKeyKind, SignerParts } from '../signer.ts';
import { createVaultSession } from '../vault/session.ts';
import type { VaultSession } from '../vault/session.ts';
import type { TransitSettings } from './settings.ts';

/** A key in the Transit engine of Vault or OpenBao, not exportable. */
export const transit: Custodian<TransitSettings> = {
  open: openTransitSigner,
  async createKey(settings, kind, parts, signal) {
    const session = openSession(settings, parts);
    try {
      await create(session, settings, kind, signal);
    } finally {
      await session.close();
    }
    return { signer: await openTransitSigner(settings, parts, signal), settings };
  },
};

const typeOf: Readonly<Record<SignerKeyKind, string>> = { 'ec-p256': 'ecdsa-p256', 'ec-p384': 'ecdsa-p384', 'rsa-3072': 'rsa-3072' };

const forms = {
  'ec-p256': { algorithm: 'ecdsa-sha256', digest: 'sha256', path: 'sha2-256' },
  'ec-p384': { algorithm: 'ecdsa-sha384', digest: 'sha384', path: 'sha2-384' },
  rsa: { algorithm: 'rsa-sha256', digest: 'sha256', path: 'sha2-256' },
} as const;

const keyAnswer = z.object({
  data: z.object({
    // Versions of symmetric keys are times alone.
    keys: z.record(
      z.string(),
      z.union([
        z.number(),
        z.object({
          public_key: z
            .string()
            .max(16 * 1024)
            .optional(),
        }),
      ]),
    ),
    soft_deleted: z.boolean().optional(),
  }),
});
const signAnswer = z.object({ data: z.object({ signature: z.string().max(8192) }) });

async function create(session: VaultSession, settings: TransitSettings, kind: SignerKeyKind, signal: AbortSignal): Promise<void> {
  const { mount, key } = settings;
  const path = `${mount}/keys/${key}`;
  const label = labelOf(settings);
  // Transit says yes to making what it has, and leaves it as it is.
  const before = await session.call({ method: 'GET', path }, keyAnswer, signal).catch((error: unknown) => {
    if (error instanceof SignetError && error.code === 'AUTHORITY_MISCONFIGURED') return undefined;
    throw error;
  });
  if (before) throw new SignetError('AUTHORITY_REFUSED', `${label}: there is such a key already; a CA's key is never replaced`);
  const body = { type: typeOf[kind], exportable: false, allow_plaintext_backup: false };
  await session.call({ method: 'POST', path, body }, z.unknown(), signal);
}

async function openTransitSigner(settings: TransitSettings, parts: SignerParts, signal: AbortSignal): Promise<Signer> {
  const { mount, key, version } = settings;
  const session = openSession(settings, parts);
  const label = labelOf(settings);
  const location = `${settings.address} ${mount}/${key} version ${String(version)}`;

  async function spkiNow(within: AbortSignal): Promise<Buffer> {
    const { data } = await session.call({ method: 'GET', path: `${mount}/keys/${key}` }, keyAnswer, within);
    if (data.soft_deleted === true) throw new SignetError('AUTHORITY_MISCONFIGURED', `${label}: the key is soft-deleted`);
    const found = data.keys[String(version)];
    if (found === undefined) throw new SignetError('AUTHORITY_MISCONFIGURED', `${label}: the key has no version ${String(version)}`);
    if (typeof found === 'number' || found.public_key === undefined)
      throw new SignetError('AUTHORITY_MISCONFIGURED', `${label}: it is no key that signs: ecdsa-p256, ecdsa-p384 and rsa-3072 do`);
    try {
      return createPublicKey(found.public_key).export({ type: 'spki', format: 'der' });
    } catch (error) {
      throw new SignetError('AUTHORITY_MISCONFIGURED', `${label}: its public key can't be read`, { cause: error });
    }
  }

  try {
    const spki = await spkiNow(signal);
    const { algorithm, digest, path } = forms[parseSubjectKey(spki).algorithm];
    return {
      type: 'transit',
      location,
      spki,
      algorithm,
      async sign(tbs, within) {
        const body = {
          input: hash(digest, tbs, 'base64'),
          prehashed: true,
          key_version: version,
          marshaling_algorithm: 'asn1',
          ...(algorithm === 'rsa-sha256' ? { signature_algorithm: 'pkcs1v15' } : {}),
        };
        const request = { method: 'POST', path: `${mount}/sign/${key}/${path}`, body } as const;
        const { data } = await session.call(request, signAnswer, within);
        return signatureOf(label, data.signature, version);
      },
      async health(within) {
        try {
          const isSame = (await spkiNow(within)).equals(spki);
          return { canSign: isSame, detail: isSame ? `signs at ${location}` : `the key at ${location} is another one than at the start` };
        } catch (error) {
          return { canSign: false, detail: SignetError.from(error).message };
        }
      },
      close: session.close,
    };
  } catch (error) {
    await session.close();
    throw error;
  }
}

/** `vault:v1:` and base64 of the signature. */
function signatureOf(label: string, text: string, version: number): Buffer {
  const [, by, base64 = ''] = /^[a-z]{1,32}:v(\d{1,7}):([A-Za-z0-9+/]+={0,2})$/.exec(text) ?? [];
  if (by !== String(version)) throw new SignetError('AUTHORITY_MISBEHAVED', `${label}: it answered with no signature by that version`);
  return Buffer.from(base64, 'base64');
}

function openSession(settings: TransitSettings, { clock, log }: SignerParts): VaultSession {
  return createVaultSession({ label: labelOf(settings), connection: settings, clock, log });
}

function labelOf({ address, mount, key }: TransitSettings): string {
  return `Transit key ${mount}/${key} at ${address}`;
}
