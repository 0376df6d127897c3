import { z } from 'zod';
import { path } from '../../config/fields.ts';
import { signerSettings } from '../signer-settings.ts';
import type { SignerSettings } from '../signer-settings.ts';

export const filesSettings = z
  .strictObject({
    type: z.literal('files'),
    root: path().describe('PEM file of the root certificate.'),
    intermediate: path()
      .optional()
      .describe("PEM file of the intermediate certificate, if that one signs; the root's key can then stay offline."),
    key: path().optional().describe('PEM file of the signing key (PKCS#8, EC or RSA), perhaps encrypted. Either this or `signer`.'),
    passphraseFile: path().optional().describe('File that holds the passphrase of an encrypted key.'),
    signer: signerSettings.optional().describe('Where the signing key is instead, if it never leaves its keeper: an HSM or a key service.'),
  })
  .superRefine((settings, context) => {
    if (!keyOf(settings)) context.addIssue({ code: 'custom', path: ['key'], message: 'give exactly one of key and signer' });
    if (settings.signer && settings.passphraseFile !== undefined)
      context.addIssue({ code: 'custom', path: ['passphraseFile'], message: 'is for a key in a file' });
  });

type Keys = {
  readonly key?: string | undefined;
  readonly passphraseFile?: string | undefined;
  readonly signer?: SignerSettings | undefined;
};

/** Where the signing key of such a backend is: of both places exactly one, or undefined. */
export function keyOf({ key, passphraseFile, signer }: Keys): FilesKey | undefined {
  if (key !== undefined && !signer) return { file: key, passphraseFile };
  return signer && key === undefined ? { signer } : undefined;
}

export type FilesKey = { readonly file: string; readonly passphraseFile: string | undefined } | { readonly signer: SignerSettings };
