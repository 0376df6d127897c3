import { z } from 'zod';
import { apiName, apiPath, connectionFields } from '../vault/settings.ts';

export const transitSettings = z.strictObject({
  type: z.literal('transit'),
  ...connectionFields,
  mount: apiPath().prefault('transit').describe('Where the Transit engine is mounted.'),
  key: apiName().describe('The name of the key.'),
  version: z
    .int()
    .min(1)
    .max(1_000_000)
    .prefault(1)
    .describe(
      'The version of the key that the CA certificate is of. Rotating the key in Transit makes a new one, which needs a new certificate.',
    ),
});

export type TransitSettings = z.output<typeof transitSettings>;
