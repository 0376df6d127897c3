import { z } from 'zod';
import { judged } from '../../config/fields.ts';
import { anchorFields } from '../anchor-settings.ts';
import { arnProblem } from '../aws/aws-arn.ts';
import { endpoint } from '../remote/endpoint.ts';

export const awsPcaSettings = z.strictObject({
  type: z.literal('aws-pca'),
  certificateAuthority: judged((text) => arnProblem('acm-pca', 'certificate-authority', text)).describe(
    'The ARN of the private CA; its region is in it. Credentials come from where every AWS program has them.',
  ),
  endpoint: endpoint(),
  ...anchorFields('follow'),
});
