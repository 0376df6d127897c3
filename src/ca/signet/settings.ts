import { z } from 'zod';
import { duration } from '../../config/fields.ts';
import { grpcUpstreamFields, hasOneCredential, oneCredential } from '../grpc/settings.ts';

/** Another Signet of the same trust domain, which certifies our intermediate. */
export const signetUpstreamSettings = z
  .strictObject({
    type: z.literal('signet'),
    ...grpcUpstreamFields,
    refresh: duration({ min: 100, max: 86_400_000 }).prefault('1m').describe("How often the trust domain's roots are asked for."),
  })
  .refine(hasOneCredential, oneCredential);

export type SignetUpstreamSettings = z.output<typeof signetUpstreamSettings>;
