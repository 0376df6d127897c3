import { z } from 'zod';
import { judged } from '../../config/fields.ts';
import { arnProblem } from '../aws/aws-arn.ts';
import { endpoint } from '../remote/endpoint.ts';

export const awsKmsSettings = z.strictObject({
  type: z.literal('aws-kms'),
  key: judged((text) => arnProblem('kms', 'key', text))
    .optional()
    .describe('The ARN of the key (usage SIGN_VERIFY); no alias. Credentials come from where every AWS program has them.'),
  region: z
    .string()
    .regex(/^[a-z]{2}[a-z0-9-]{3,38}$/, 'must be a region like eu-west-1')
    .optional()
    .describe('Where `signet ca init` makes a key. Left out once there is one: its ARN says where it is.'),
  endpoint: endpoint(),
});

export type AwsKmsSettings = z.output<typeof awsKmsSettings>;
