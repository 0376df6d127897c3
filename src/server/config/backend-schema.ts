import { z } from 'zod';
import { builtinSettings } from '../../ca/builtin/settings.ts';
import { filesSettings } from '../../ca/files/settings.ts';
import { vaultSettings } from '../../ca/vault/settings.ts';

/** One CA that can sign. Each kind's settings are in its own folder under src/ca. */
export const backend = z.discriminatedUnion('type', [builtinSettings, filesSettings, vaultSettings]);
