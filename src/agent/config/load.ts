import { SignetError } from '../../base/errors.ts';
import { readLayers } from '../../config/layers.ts';
import type { ConfigSources } from '../../config/layers.ts';
import { formatProblem } from '../../config/problems.ts';
import type { ConfigProblem } from '../../config/problems.ts';
import { crossCheck } from './cross-check.ts';
import { agentConfigJsonSchema, agentConfigSchema } from './schema.ts';
import type { AgentConfig } from './schema.ts';

const flagNames: Readonly<Record<string, string>> = {
  servers: '--server',
  trustDomain: '--trust-domain',
  'serverTrust.caFile': '--ca',
  'serverTrust.pinnedSpki': '--pin',
  'workloads.0.tokenFile': '--token-file',
  'workloads.0.socket': '--socket',
  'cache.folder': '--cache',
  'cache.sealingKeyFile': '--sealing-key-file',
  'listen.http': '--http',
};

export interface CheckedAgentConfig {
  /** Undefined if there are problems. */
  readonly config: AgentConfig | undefined;
  readonly problems: readonly ConfigProblem[];
}

/** Throws CONFIG_INVALID; its message has one line per problem, each with its place and a hint. */
export async function loadAgentConfig(sources: ConfigSources): Promise<AgentConfig> {
  const { config, problems } = await checkAgentConfig(sources);
  if (!config) throw new SignetError('CONFIG_INVALID', problems.map(formatProblem).join('\n'));
  return config;
}

/** Flags over environment over file over defaults. Throws CONFIG_INVALID only when the file can't be read. */
export async function checkAgentConfig(sources: ConfigSources): Promise<CheckedAgentConfig> {
  const layout = { schema: agentConfigSchema, json: agentConfigJsonSchema(), flagNames, below: [] };
  const { parsed, problems, place } = await readLayers({ ...sources, env: settingsOf(sources.env) }, layout);
  if (!parsed) return { config: undefined, problems };
  const all = [...problems, ...crossCheck(parsed).map(place)];
  return { config: all.length === 0 ? parsed : undefined, problems: all };
}

/** The key that seals the cache is in the environment too, and no setting. */
function settingsOf(env: ConfigSources['env']): ConfigSources['env'] {
  return { ...env, SIGNET_SEALING_KEY: undefined };
}
