import { z } from 'zod';
import { anchorFields } from '../anchor-settings.ts';
import { day, duration } from '../../config/fields.ts';
import { signetUpstreamSettings } from '../signet/settings.ts';
import { spireUpstreamSettings } from '../spire/settings.ts';
import { vaultUpstreamSettings } from '../vault/settings.ts';

export const intermediateSettings = z.strictObject({
  type: z.literal('intermediate'),
  upstream: z
    .discriminatedUnion('type', [
      signetUpstreamSettings,
      spireUpstreamSettings,
      vaultUpstreamSettings.omit({ anchors: true, approvedAnchors: true }),
    ])
    .describe('Who certifies it.'),
  life: duration({ min: 60_000, max: 3650 * day })
    .prefault('30d')
    .describe(
      'The life asked for; the upstream may give less. Renewed at half of it with a new key, so it is also twice as long as the upstream may be away.',
    ),
  ...anchorFields('follow'),
});
