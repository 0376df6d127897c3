import { z } from 'zod';
import { path } from '../../config/fields.ts';

export const filesSettings = z.strictObject({
  type: z.literal('files'),
  root: path().describe('PEM file of the root certificate.'),
  intermediate: path()
    .optional()
    .describe("PEM file of the intermediate certificate, if that one signs; the root's key can then stay offline."),
  key: path().describe('PEM file of the signing key (PKCS#8, EC or RSA), perhaps encrypted.'),
  passphraseFile: path().optional().describe('File that holds the passphrase of an encrypted key.'),
});
