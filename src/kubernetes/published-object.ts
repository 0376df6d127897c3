import { z } from 'zod';

/** What is published, at a version of the trust bundle. */
export interface PublishedBundle {
  /** `<generation>.<hash>`. */
  readonly version: string;
  readonly pem: string;
}

/** The bundle as the store has it: what is here has been made durable. */
export interface BundleFeed {
  current(): PublishedBundle;
  subscribe(listener: () => void): () => void;
  /** Takes up what another server wrote. */
  refresh(): Promise<void>;
}

/** An object that holds the bundle: how it is called, and how to write and read it. */
export interface BundleTarget {
  /** For logs and metrics. */
  readonly kind: 'ConfigMap' | 'ClusterTrustBundle';
  /** Where it is, by key: a namespace, or nothing for what has none. */
  path(key: string): string;
  object(key: string, bundle: PublishedBundle, trustDomain: string): object;
  content(object: unknown): string | undefined;
}

export const versionAnnotation = 'signet.dev/bundle-version';
export const trustDomainAnnotation = 'signet.dev/trust-domain';
const managedBy = { 'app.kubernetes.io/managed-by': 'signet' };

function metadata(name: string, bundle: PublishedBundle, trustDomain: string): Readonly<Record<string, unknown>> {
  return {
    name,
    labels: managedBy,
    annotations: { [versionAnnotation]: bundle.version, [trustDomainAnnotation]: trustDomain },
  };
}

const configMap = z.object({ data: z.record(z.string(), z.string()).optional() });

export function configMapTarget(name: string, entry: string): BundleTarget {
  return {
    kind: 'ConfigMap',
    path: (namespace) => `/api/v1/namespaces/${namespace}/configmaps/${name}`,
    object: (namespace, bundle, trustDomain) => ({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { ...metadata(name, bundle, trustDomain), namespace },
      data: { [entry]: bundle.pem },
    }),
    content: (object) => configMap.parse(object).data?.[entry],
  };
}

const clusterTrustBundle = z.object({ spec: z.object({ trustBundle: z.string().optional() }).optional() });
export const clusterTrustBundles = '/apis/certificates.k8s.io/v1beta1/clustertrustbundles';

export function clusterTrustBundleTarget(name: string, signerName: string | undefined): BundleTarget {
  return {
    kind: 'ClusterTrustBundle',
    path: () => `${clusterTrustBundles}/${name}`,
    object: (_key, bundle, trustDomain) => ({
      apiVersion: 'certificates.k8s.io/v1beta1',
      kind: 'ClusterTrustBundle',
      metadata: metadata(name, bundle, trustDomain),
      spec: { ...(signerName === undefined ? {} : { signerName }), trustBundle: bundle.pem },
    }),
    content: (object) => clusterTrustBundle.parse(object).spec?.trustBundle,
  };
}

/** How an object stands to what should be there. */
export type Standing =
  | { readonly kind: 'absent' }
  | { readonly kind: 'as-wanted' }
  /** Ours, but not as it should be. `ahead`: it holds a later generation than ours. */
  | { readonly kind: 'differs'; readonly ahead: boolean }
  /** Somebody else's: it is left alone. */
  | { readonly kind: 'foreign'; readonly why: string };

/** As much of an object as tells whose it is. */
export const storedObject = z.looseObject({
  metadata: z.object({
    name: z.string(),
    namespace: z.string().optional(),
    resourceVersion: z.string(),
    uid: z.string(),
    annotations: z.record(z.string(), z.string()).optional(),
    managedFields: z.array(z.object({ manager: z.string().optional() })).optional(),
  }),
});
export type StoredObject = z.output<typeof storedObject>;

const managerPrefix = 'signet/';
/** The API server's limit on the name of a field manager. */
const longestManager = 128;

/** Under which name the fields are applied: each trust domain has its own, so that two servers never fight over one object. */
export function fieldManager(trustDomain: string): string {
  return `${managerPrefix}${trustDomain}`.slice(0, longestManager);
}

/**
 * Ours is what our field manager has written, or what was ours before (`wasOurs`): whoever edits an object takes over the
 * ownership of what is edited, and may make it anew. Any other object of that name is somebody's, and not overwritten.
 */
export function standingOf(
  target: BundleTarget,
  object: StoredObject | undefined,
  wanted: PublishedBundle,
  trustDomain: string,
  wasOurs: boolean,
): Standing {
  if (object === undefined) return { kind: 'absent' };
  const { annotations = {}, managedFields = [] } = object.metadata;
  const managers = managedFields.flatMap(({ manager }) => (manager === undefined ? [] : [manager]));
  const self = fieldManager(trustDomain);
  const other = managers.find((manager) => manager.startsWith(managerPrefix) && manager !== self);
  if (other !== undefined && !managers.includes(self)) return { kind: 'foreign', why: `it is published by another server (${other})` };
  if (!managers.includes(self) && !wasOurs) return { kind: 'foreign', why: 'it was there before, made by somebody else' };
  const version = annotations[versionAnnotation];
  if (target.content(object) === wanted.pem && version === wanted.version && annotations[trustDomainAnnotation] === trustDomain)
    return { kind: 'as-wanted' };
  return { kind: 'differs', ahead: generationOf(version ?? '') > generationOf(wanted.version) };
}

function generationOf(version: string): number {
  const generation = Number(/^(\d{1,15})\./.exec(version)?.[1] ?? 0);
  return generation;
}
