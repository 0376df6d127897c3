import { z } from 'zod';
import { judged, path } from '../../config/fields.ts';
import { anchorFields } from '../anchor-settings.ts';
import { resourceNameProblem } from '../google/resource-name.ts';
import { endpoint } from '../remote/endpoint.ts';

export const gcpCasSettings = z.strictObject({
  type: z.literal('gcp-cas'),
  caPool: judged((text) => resourceNameProblem('projects/PROJECT/locations/LOCATION/caPools/POOL', text)).describe(
    'The CA pool that issues: `projects/PROJECT/locations/LOCATION/caPools/POOL`.',
  ),
  certificateTemplate: judged((text) => resourceNameProblem('projects/PROJECT/locations/LOCATION/certificateTemplates/TEMPLATE', text))
    .optional()
    .describe('A certificate template to issue by, where the pool or a permission demands one.'),
  credentialsFile: path()
    .optional()
    .describe("File of a service account's key or of workload identity federation. Default: Application Default Credentials."),
  endpoint: endpoint(),
  ...anchorFields('follow'),
});
