import { SignetError } from '../../base/errors.ts';
import { readLayers } from '../../config/layers.ts';
import type { ConfigSources as Sources } from '../../config/layers.ts';
import { formatProblem } from '../../config/problems.ts';
import type { ConfigProblem } from '../../config/problems.ts';
import { completed } from './complete.ts';
import { crossCheck } from './cross-check.ts';
import { defaults } from './defaults.ts';
import { devDefaults } from './dev.ts';
import { configJsonSchema, configSchema } from './schema.ts';
import type { Config } from './schema.ts';

export interface ConfigSources extends Sources {
  readonly dev?: boolean;
}

export interface CheckedConfig {
  /** Undefined if there are problems. */
  readonly config: Config | undefined;
  readonly problems: readonly ConfigProblem[];
  /** Legal, but worth a second look. */
  readonly warnings: readonly ConfigProblem[];
}

const flagNames: Readonly<Record<string, string>> = {
  data: '--data',
  trustDomain: '--trust-domain',
  'listen.grpc': '--grpc',
  'listen.http': '--http',
  'policy.tiers.dev': '--leaf-ttl',
};

/** Throws CONFIG_INVALID; its message has one line per problem, each with its place and a hint. */
export async function loadConfig(sources: ConfigSources): Promise<Config> {
  const { config, problems } = await checkConfig(sources);
  if (!config) throw new SignetError('CONFIG_INVALID', problems.map(formatProblem).join('\n'));
  return config;
}

/**
 * Flags over environment over file over defaults. Reports every problem there is, not only the first.
 * Throws CONFIG_INVALID only when the file can't be read.
 */
export async function checkConfig(sources: ConfigSources): Promise<CheckedConfig> {
  const dev = sources.dev ?? false;
  // Tiers of one's own stand beside the three that everybody knows.
  const known = { policy: { tiers: defaults.tiers } };
  const below = dev ? [known, devDefaults()] : [known];
  const { parsed, problems, place } = await readLayers(sources, { schema: configSchema, json: configJsonSchema(), flagNames, below });
  if (!parsed) return { config: undefined, problems, warnings: [] };
  const config = completed(parsed, { dev });
  const { faults, warnings } = crossCheck(config, { dev });
  const all = [...problems, ...faults.map(place)];
  return { config: all.length === 0 ? config : undefined, problems: all, warnings: warnings.map(place) };
}
