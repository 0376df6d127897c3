import { join } from 'node:path';
import { isWildcard, splitAddress } from '../../config/address.ts';
import { devServingNames } from './dev.ts';
import type { Config, configSchema } from './schema.ts';
import type { z } from 'zod';

/** Fills in the defaults that depend on other settings. */
export function completed(parsed: z.output<typeof configSchema>, options: { readonly dev: boolean }): Config {
  const backends = Object.keys(parsed.ca.backends);
  const { host } = splitAddress(parsed.listen.grpc);
  const ownNames = isWildcard(host) ? [] : [host];
  const names = parsed.listen.names.length > 0 ? parsed.listen.names : ownNames;
  return {
    ...parsed,
    listen: {
      ...parsed.listen,
      admin: parsed.listen.admin ?? join(parsed.data, 'admin.sock'),
      names: [...new Set(options.dev ? [...names, ...devServingNames] : names)],
    },
    // With several backends and no default, cross-check.ts says so.
    ca: { ...parsed.ca, default: parsed.ca.default ?? (backends.length === 1 ? (backends[0] ?? '') : '') },
  };
}
