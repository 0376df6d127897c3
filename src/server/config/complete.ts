import { join } from 'node:path';
import { isIP } from 'node:net';
import { devServingNames } from './dev.ts';
import type { Config, configSchema } from './schema.ts';
import type { z } from 'zod';

/** `[::1]:8443` is host `::1`, port 8443. The schema has checked the form. */
export function splitAddress(address: string): { readonly host: string; readonly port: number } {
  const colon = address.lastIndexOf(':');
  return { host: address.slice(0, colon).replace(/^\[(.*)\]$/, '$1'), port: Number(address.slice(colon + 1)) };
}

export function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::' || host === '';
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

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
