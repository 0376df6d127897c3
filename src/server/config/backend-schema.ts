import { z } from 'zod';
import { awsPcaSettings } from '../../ca/aws-pca/settings.ts';
import { builtinSettings } from '../../ca/builtin/settings.ts';
import { certManagerSettings } from '../../ca/cert-manager/settings.ts';
import { filesSettings } from '../../ca/files/settings.ts';
import { gcpCasSettings } from '../../ca/gcp-cas/settings.ts';
import { pluginSettings } from '../../ca/plugin/settings.ts';
import { intermediateSettings } from '../../ca/intermediate/settings.ts';
import { istioSettings } from '../../ca/istio/settings.ts';
import { stepCaSettings } from '../../ca/step-ca/settings.ts';
import { vaultSettings } from '../../ca/vault/settings.ts';
import { kubernetesCsrSettings } from '../../ca/kubernetes-csr/settings.ts';
import { name } from '../../config/fields.ts';

/** What each kind of backend has that may be away. */
const mayBeAway = {
  fallback: name()
    .optional()
    .describe('A name of `ca.backends`: the backend that signs in its stead while it is away. The roots of both are trusted all the time.'),
};

/** One CA that can sign. Each kind's settings are in its own folder under src/ca. */
export const backend = z.discriminatedUnion('type', [
  builtinSettings,
  filesSettings.extend(mayBeAway),
  vaultSettings.extend(mayBeAway),
  awsPcaSettings.extend(mayBeAway),
  gcpCasSettings.extend(mayBeAway),
  pluginSettings.safeExtend(mayBeAway),
  kubernetesCsrSettings.extend(mayBeAway),
  certManagerSettings.extend(mayBeAway),
  intermediateSettings,
  istioSettings.safeExtend(mayBeAway),
  stepCaSettings.extend(mayBeAway),
]);

export function fallbackOf(settings: z.output<typeof backend> | undefined): string | undefined {
  return settings && 'fallback' in settings ? settings.fallback : undefined;
}
