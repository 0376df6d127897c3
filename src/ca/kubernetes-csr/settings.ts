import { z } from 'zod';
import { anchorFields } from '../anchor-settings.ts';
import { clusterFields } from '../../kubernetes/settings.ts';
import { rootsFrom } from '../kubernetes/settings.ts';

/**
 * Kubernetes can't be asked for less than 10 minutes, and an instance's first certificate may get half of its tier's life, of
 * which the signer's time is taken off.
 */
export const leastTierMs = 21 * 60_000;

export const kubernetesCsrSettings = z.strictObject({
  type: z.literal('kubernetes-csr'),
  ...clusterFields,
  signerName: z
    .string()
    .regex(/^(?!kubernetes\.io\/)[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?\/[a-z0-9][a-z0-9./-]{0,300}$/, {
      message: 'must be DOMAIN/PATH, and none of kubernetes.io: those certify nodes and clients of the API server',
    })
    .describe("The signer that the requests are for, for example `pki.example.org/workloads`. Approving and signing is that signer's."),
  rootsFrom,
  ...anchorFields('follow'),
});
