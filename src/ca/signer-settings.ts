import { z } from 'zod';
import { awsKmsSettings } from './aws-kms/settings.ts';
import { gcpKmsSettings } from './gcp-kms/settings.ts';
import { pkcs11Settings } from './pkcs11/settings.ts';
import { transitSettings } from './vault-transit/settings.ts';

/** Where a CA key is that is not in a file: `signer` of a backend, and of `signet ca`. Each kind's settings are in its own folder. */
export const signerSettings = z.discriminatedUnion('type', [pkcs11Settings, transitSettings, awsKmsSettings, gcpKmsSettings]);
export type SignerSettings = z.output<typeof signerSettings>;
