import { homedir, tmpdir } from 'node:os';
import { keyDirectoryProblem } from '../../policy/key-directory.ts';
import { defaults } from './defaults.ts';
import type { ConfigInput } from './schema.ts';

/** The trust domain of `--dev` unless another is configured. */
export const devTrustDomain = 'cluster.local';
/** The tier that `--leaf-ttl` sets, and that every identity has in development. */
export const devTier = 'dev';

/**
 * What `--dev` puts below file, environment and flags. The development issuer is not in it: its keys are made in the
 * data folder, and the composition root adds it.
 */
export function devDefaults(): Partial<ConfigInput> {
  return {
    trustDomain: devTrustDomain,
    data: '.signet',
    policy: {
      defaults: { tier: devTier, keyMode: 'server', keyDirectories: devKeyDirectories(), keyMaxAge: '30d' },
    },
    // One process, one machine: tests and demos start whole fleets at once.
    limits: {
      issuancePerSecond: 1000,
      issuanceBurst: 10_000,
      totalIssuancePerSecond: 10_000,
      totalIssuanceBurst: 100_000,
      streamsPerIdentity: 10_000,
    },
  };
}

/** How the server is reached in development: by any name of this machine. */
export const devServingNames: readonly string[] = ['localhost', '127.0.0.1', '::1'];

/** In development the key lies wherever somebody tries things out. */
function devKeyDirectories(): string[] {
  const folders = [
    ...defaults.policy.keyDirectories,
    '/etc',
    '/home',
    '/opt',
    '/run',
    '/srv',
    '/tmp',
    '/var',
    tmpdir(),
    homedir(),
    process.cwd(),
  ];
  return [...new Set(folders)].filter((folder) => keyDirectoryProblem(folder) === undefined);
}
