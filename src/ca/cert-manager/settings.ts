import { z } from 'zod';
import { anchorFields } from '../anchor-settings.ts';
import { namespaceName } from '../../kubernetes/names.ts';
import { clusterFields } from '../../kubernetes/settings.ts';
import { rootsFrom } from '../kubernetes/settings.ts';

export const certManagerSettings = z.strictObject({
  type: z.literal('cert-manager'),
  ...clusterFields,
  namespace: namespaceName().describe('Where the CertificateRequests are made; one that is for nothing else.'),
  issuer: z
    .strictObject({
      name: z.string().min(1).max(253).describe('Its name.'),
      kind: z
        .string()
        .regex(/^[A-Z][A-Za-z0-9]{0,62}$/, 'must be a kind, such as ClusterIssuer')
        .prefault('Issuer')
        .describe('`Issuer` (in the same namespace), `ClusterIssuer`, or the kind of an external issuer.'),
      group: z.string().min(1).max(253).prefault('cert-manager.io').describe('The API group of that kind.'),
    })
    .describe('Who signs.'),
  rootsFrom,
  ...anchorFields('follow'),
});
