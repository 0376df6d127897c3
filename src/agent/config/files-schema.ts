import { z } from 'zod';
import { duration, path } from '../../config/fields.ts';

const fileName = () =>
  z
    .string()
    .regex(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/, 'must be a plain file name: at most 64 of A-Z, a-z, 0-9, ".", "_" and "-", no dot first');

/** For servers that read their identity from files. */
export const files = z.strictObject({
  folder: path().describe(
    'Where they are written, all of them replaced at once. A folder of their own, made if the one above it is there; its owner must be the user that runs the agent, and no symbolic link may lead to it.',
  ),
  certificate: fileName().prefault('tls.crt').describe('The certificate and its intermediates in PEM, leaf first.'),
  key: fileName().prefault('tls.key').describe('Its private key in PEM (PKCS#8), mode 0600, or 0640 with a group.'),
  bundle: fileName().prefault('ca.crt').describe("The anchors of the workload's trust domain in PEM."),
  pkcs12: z
    .strictObject({
      keyStore: fileName().prefault('keystore.p12').describe('Key, certificate and intermediates; its mode is that of the key.'),
      trustStore: fileName().prefault('truststore.p12').describe('The anchors, each trusted as Java wants it said.'),
      passwordFile: path().describe('File of the password of both, 6 to 1000 characters of printable ASCII. Read for each certificate.'),
      alias: z
        .string()
        .regex(/^[a-z0-9-]{1,64}$/, 'must be 1 to 64 of a-z, 0-9 and "-"')
        .prefault('workload')
        .describe("The key's name in the key store."),
    })
    .optional()
    .describe('Also PKCS#12, for Java.'),
  group: z
    .string()
    .regex(/^(?:\d{1,10}|[a-z_][a-z0-9_-]{0,31})$/, 'must be the name or the number of a group')
    .optional()
    .describe(
      'The group that may read them, by name or number: the folder is 0750 then. Default: the user that runs the agent alone, 0700.',
    ),
  command: z
    .array(z.string().max(4096))
    .min(1)
    .max(64)
    .refine(([program]) => program?.startsWith('/') === true, 'its first item must be the absolute path of a program')
    .optional()
    .describe(
      'Program and arguments, without a shell, run after each change of the files and once after the start of the agent: what makes the server read them again.',
    ),
  commandTimeout: duration({ min: 100, max: 600_000 })
    .prefault('30s')
    .describe('When the command is ended with all that it started: SIGTERM, and SIGKILL 5 s later.'),
});

export type FilesConfig = z.output<typeof files>;

/** Every name that is written to the folder. */
export function fileNames({ certificate, key, bundle, pkcs12 }: FilesConfig): string[] {
  return [certificate, key, bundle, ...(pkcs12 ? [pkcs12.keyStore, pkcs12.trustStore] : [])];
}
