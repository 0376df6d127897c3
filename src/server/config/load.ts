import { dirname, resolve } from 'node:path';
import { SignetError } from '../../base/errors.ts';
import type { ConfigFile } from './config-file.ts';
import { crossCheck } from './cross-check.ts';
import { defaults } from './defaults.ts';
import { devDefaults } from './dev.ts';
import { environmentOverrides, flagOverrides, looksLikeFlow } from './environment.ts';
import type { Override } from './environment.ts';
import { findingsOf, formatProblem } from './problems.ts';
import type { ConfigProblem, Finding } from './problems.ts';
import { configJsonSchema, configSchema } from './schema.ts';
import type { Config } from './schema.ts';
import { childSchema, formatPath, isRecord, mergeLayers, withValue } from './schema-path.ts';
import { completed } from './complete.ts';

export interface ConfigSources {
  /** The YAML file, if there is one. */
  readonly file?: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** By the dotted path of the setting: {'listen.grpc': '127.0.0.1:0'}. */
  readonly flags?: Readonly<Record<string, string | undefined>>;
  readonly dev?: boolean;
  /** What relative paths of flags and environment are relative to. Default: the working directory. */
  readonly cwd?: string;
}

export interface CheckedConfig {
  /** Undefined if there are problems. */
  readonly config: Config | undefined;
  readonly problems: readonly ConfigProblem[];
  /** Legal, but worth a second look. */
  readonly warnings: readonly ConfigProblem[];
}

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
  // The YAML parser takes a while to load, and --dev has no file.
  const flow = [sources.env, sources.flags ?? {}].some((texts) =>
    Object.values(texts).some((text) => text !== undefined && looksLikeFlow(text)),
  );
  const yaml = sources.file !== undefined || flow ? await import('./config-file.ts') : undefined;
  const parseFlow = yaml?.parseFlow ?? ((text: string): unknown => text);
  const file = sources.file === undefined ? undefined : await yaml?.readConfigFile(resolve(sources.cwd ?? '.', sources.file));
  if (file && file.problems.length > 0) return { config: undefined, problems: file.problems, warnings: [] };

  const cwd = resolve(sources.cwd ?? '.');
  const schema = configJsonSchema();
  const fileLayer = file ? absolutePaths(file.value, dirname(file.file)) : {};
  // Tiers of one's own stand beside the three that everybody knows.
  const known = { policy: { tiers: defaults.tiers } };
  const layered = mergeLayers(mergeLayers(known, sources.dev ? absolutePaths(devDefaults(), cwd) : {}), fileLayer);
  const environment = environmentOverrides(sources.env, schema, layered, parseFlow);
  const overrides: Override[] = [...environment.overrides, ...flagOverrides(sources.flags ?? {}, schema, layered, parseFlow)];
  const input = absolutePaths(
    overrides.reduce<unknown>((tree, { path, value }) => withValue(tree, path, value), layered),
    cwd,
  );

  const place = placer(file, overrides);
  const parsed = configSchema.safeParse(input);
  if (!parsed.success) {
    return {
      config: undefined,
      problems: [...environment.problems, ...findingsOf(parsed.error.issues, input, schema).map(place)],
      warnings: [],
    };
  }
  const config = completed(parsed.data, { dev: sources.dev ?? false });
  const { faults, warnings } = crossCheck(config, { dev: sources.dev ?? false });
  const problems = [...environment.problems, ...faults.map(place)];
  return { config: problems.length === 0 ? config : undefined, problems, warnings: warnings.map(place) };
}

/** Says of each finding where its setting was written; what an override set is the override's fault. */
function placer(file: ConfigFile | undefined, overrides: readonly Override[]): (finding: Finding) => ConfigProblem {
  return ({ path, message, hint, atKey }) => {
    const covering = overrides.findLast((override) => override.path.every((part, i) => part === path[i]));
    const where = covering?.where ?? file?.locate(path, atKey) ?? 'configuration';
    return { where, path: formatPath(path), message, hint };
  };
}

/** Makes the paths in one layer absolute: those of the file are relative to its folder. */
function absolutePaths(layer: unknown, folder: string): unknown {
  const visit = (value: unknown, schema: ReturnType<typeof configJsonSchema> | undefined): unknown => {
    if (!schema) return value;
    if (typeof value === 'string') {
      const isPath = schema.format === 'path' || (schema.format === 'path-or-url' && !/^https?:/.test(value));
      return isPath && value !== '' ? resolve(folder, value) : value;
    }
    if (Array.isArray(value)) return (value as readonly unknown[]).map((item, i) => visit(item, childSchema(schema, i, value)));
    if (isRecord(value))
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, visit(item, childSchema(schema, key, value))]));
    return value;
  };
  return visit(layer, configJsonSchema());
}
