import { z } from 'zod';
import { namespaceName, objectName } from './names.ts';
import { clusterFields } from './settings.ts';

/** Where the trust bundle is published to: at least one of the two kinds of objects. */
export const publishBundleSettings = z
  .strictObject({
    ...clusterFields,
    configMap: z
      .strictObject({
        name: objectName().prefault('signet-bundle').describe('Its name, the same in every namespace.'),
        key: z
          .string()
          .regex(/^[-._a-zA-Z0-9]{1,253}$/, 'must be a key of a ConfigMap')
          .prefault('ca.crt')
          .describe('The key whose value is the bundle, in PEM.'),
        // What it means is the API server's to say.
        namespaces: z
          .string()
          .regex(/^[-A-Za-z0-9._/=!,() ]{0,1000}$/, 'must be a label selector of Kubernetes')
          .prefault('')
          .describe('A label selector, for example `signet.dev/bundle=true,!legacy`. Default: every namespace.'),
      })
      .optional()
      .describe('A ConfigMap in each of the selected namespaces.'),
    clusterTrustBundle: z
      .strictObject({
        name: z
          .string()
          .regex(/^[a-z0-9][a-z0-9.:-]{0,252}$/, 'must be the name of a ClusterTrustBundle')
          .describe('Its name; with a `signerName` that with `:` for `/`, then `:` and a name.'),
        signerName: z
          .string()
          .regex(/^[a-z0-9.-]{1,253}\/[a-z0-9./-]{1,300}$/, 'must be DOMAIN/PATH')
          .optional()
          .describe('The signer whose bundle it is: then only who may `attest` for that signer may change it.'),
      })
      .optional()
      .describe('A ClusterTrustBundle (certificates.k8s.io/v1beta1), which pods mount by a projected volume.'),
    lease: z
      .strictObject({
        namespace: namespaceName().optional().describe("Its namespace. Default: that of Signet's own pod."),
        name: objectName().prefault('signet-bundle').describe('Its name. Servers of one trust domain share one, others have another.'),
      })
      .prefault({})
      .describe('The Lease by which the servers agree on who publishes.'),
  })
  .refine(({ configMap, clusterTrustBundle }) => configMap !== undefined || clusterTrustBundle !== undefined, {
    message: 'needs configMap, clusterTrustBundle, or both: what the bundle is published as',
  });

export type PublishBundle = z.output<typeof publishBundleSettings>;
