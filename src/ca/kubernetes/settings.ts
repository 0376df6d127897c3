import { z } from 'zod';
import { path } from '../../config/fields.ts';
import { namespaceName, objectName } from '../../kubernetes/names.ts';

/** Where the roots of a CA behind the Kubernetes API come from: an answer to a request never says whom to trust. */
export const rootsFrom = z
  .strictObject({
    file: path().optional().describe('A PEM file, read again when it changes.'),
    configMap: z
      .strictObject({
        namespace: namespaceName().describe('The namespace that it is in.'),
        name: objectName().describe('Its name.'),
        key: z
          .string()
          .regex(/^[-._a-zA-Z0-9]{1,253}$/, 'must be a key of a ConfigMap')
          .prefault('ca.crt')
          .describe('The key whose value is PEM.'),
      })
      .optional()
      .describe('A ConfigMap, watched. Whoever may write it decides whom workloads trust.'),
    clusterTrustBundle: z
      .string()
      .regex(/^[a-z0-9][a-z0-9.:-]{0,252}$/, 'must be the name of a ClusterTrustBundle')
      .optional()
      .describe(
        'A ClusterTrustBundle, watched. One of the signer itself has the name `DOMAIN:PATH:NAME`, and only its signer may write it.',
      ),
  })
  .refine(
    ({ file, configMap, clusterTrustBundle }) => [file, configMap, clusterTrustBundle].filter((one) => one !== undefined).length === 1,
    {
      message: 'needs exactly one of file, configMap and clusterTrustBundle: where the roots of this CA are',
    },
  )
  .describe('Where the roots of this CA are: exactly one of the three.');

export type RootsFrom = z.output<typeof rootsFrom>;
