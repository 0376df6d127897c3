import { z } from 'zod';
import { day, duration } from '../../config/fields.ts';

export const builtinSettings = z.strictObject({
  type: z.literal('builtin'),
  rootLife: duration({ min: day, max: 36_500 * day })
    .prefault('3650d')
    .describe('The life of the root made at the first start.'),
  intermediateLife: duration({ min: 3_600_000, max: 3650 * day })
    .prefault('365d')
    .describe('The life of the intermediate that signs.'),
});
