import { z } from 'zod';
import { anchorFields } from '../anchor-settings.ts';
import { grpcUpstreamFields, hasOneCredential, oneCredential } from '../grpc/settings.ts';
import { path } from '../../config/fields.ts';

export const istioSettings = z
  .strictObject({
    type: z.literal('istio'),
    ...grpcUpstreamFields,
    roots: path().describe(
      "PEM file of this CA's roots, which workloads will trust; read again when it changes. The roots in its answers are never trusted.",
    ),
    impersonate: z
      .boolean()
      .prefault(false)
      .describe(
        'Off: the CA takes the name from the request, as it does of a registration authority. On: it is told as `ImpersonatedIdentity`, as istiod wants it of trusted node accounts.',
      ),
    clusterId: z
      .string()
      .regex(/^[\x21-\x7e]{1,253}$/)
      .optional()
      .describe('Sent as `clusterid`: the cluster whose API server reviews our token.'),
    certSigner: z.string().min(1).max(253).optional().describe('Sent as `CertSigner`: one of several signers of this CA.'),
    ...anchorFields('follow'),
  })
  .refine(hasOneCredential, oneCredential);

export type IstioSettings = z.output<typeof istioSettings>;
