import { z } from 'zod';
import { anchorFields } from '../anchor-settings.ts';
import { duration, path } from '../../config/fields.ts';

export const stepCaSettings = z.strictObject({
  type: z.literal('step-ca'),
  url: z
    .string()
    .max(1024)
    .regex(/^https:\/\/[^/?#@]+$/, 'must be https://HOST:PORT and no more')
    .describe('Where step-ca answers, such as `https://ca.example.org:9000`. The host must be among its `dnsNames`.'),
  rootFingerprints: z
    .array(z.string().regex(/^[0-9a-f]{64}$/, 'must be what `step certificate fingerprint root_ca.crt` prints: 64 lower-case hex digits'))
    .min(1)
    .max(10)
    .describe('SHA-256 of the roots by which its own TLS certificate is believed. Before a change of root list both.'),
  provisioner: z.string().min(1).max(256).describe('The name of its provisioner, of type JWK or X5C.'),
  keyFile: path().describe(
    "File of the provisioner's private key: a JWK, plain or encrypted as `step` writes it. With `certificateFile`, the key of that certificate in PEM. Read for each signature.",
  ),
  passphraseFile: path().optional().describe('File that holds the passphrase of an encrypted key.'),
  certificateFile: path()
    .optional()
    .describe('PEM file of a certificate chain that the X5C provisioner believes; with it the provisioner is taken for one of type X5C.'),
  refresh: duration({ min: 100, max: 86_400_000 }).prefault('1m').describe('How often its roots are asked for.'),
  ...anchorFields('follow'),
});

export type StepCaSettings = z.output<typeof stepCaSettings>;
