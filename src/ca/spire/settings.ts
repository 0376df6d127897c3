import { z } from 'zod';
import { duration } from '../../config/fields.ts';
import { grpcUpstreamFields } from '../grpc/settings.ts';

const { address, caFile, certificateFile, keyFile } = grpcUpstreamFields;

/** A SPIRE server of the same trust domain, which certifies our intermediate. */
export const spireUpstreamSettings = z.strictObject({
  type: z.literal('spire'),
  address,
  caFile: caFile.describe("PEM file of the trust domain's bundle, as spiffe-helper keeps it. Read again when it changes."),
  certificateFile: certificateFile.unwrap().describe('PEM file of the X.509-SVID whose entry is `downstream`. Read again when it changes.'),
  keyFile: keyFile.unwrap().describe('PEM file of its key.'),
  refresh: duration({ min: 100, max: 86_400_000 }).prefault('1m').describe("How often the trust domain's roots are asked for."),
});

export type SpireUpstreamSettings = z.output<typeof spireUpstreamSettings>;
