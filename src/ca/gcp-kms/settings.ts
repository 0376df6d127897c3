import { z } from 'zod';
import { judged, path } from '../../config/fields.ts';
import { resourceNameProblem } from '../google/resource-name.ts';
import { endpoint } from '../remote/endpoint.ts';

const keyVersionForm = 'projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY/cryptoKeyVersions/VERSION';

export const gcpKmsSettings = z.strictObject({
  type: z.literal('gcp-kms'),
  keyVersion: judged((text) => resourceNameProblem(keyVersionForm, text)).describe(
    `The version of the key that signs: \`${keyVersionForm}\`.`,
  ),
  credentialsFile: path()
    .optional()
    .describe("File of a service account's key or of workload identity federation. Default: Application Default Credentials."),
  endpoint: endpoint(),
});

export type GcpKmsSettings = z.output<typeof gcpKmsSettings>;
