import { dirname, resolve } from 'node:path';
import type { z } from 'zod';
import type { ConfigFile } from './config-file.ts';
import { environmentOverrides, flagOverrides, looksLikeFlow } from './environment.ts';
import type { Override } from './environment.ts';
import { findingsOf } from './problems.ts';
import type { ConfigProblem, Finding } from './problems.ts';
import { childSchema, formatPath, isRecord, mergeLayers, withValue } from './schema-path.ts';

export interface ConfigSources {
  /** The YAML file, if there is one. */
  readonly file?: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** By the dotted path of the setting: {'listen.grpc': '127.0.0.1:0'}. */
  readonly flags?: Readonly<Record<string, string | undefined>>;
  /** What relative paths of flags and environment are relative to. Default: the working directory. */
  readonly cwd?: string;
}

/** What one role's configuration is made of. */
export interface Layout<Schema extends z.ZodType> {
  readonly schema: Schema;
  /** Of the schema's input. */
  readonly json: z.core.JSONSchema.BaseSchema;
  /** How flags are spelt, by the dotted path of their setting. */
  readonly flagNames: Readonly<Record<string, string>>;
  /** What lies below the file, in the file's words: lower ones first. */
  readonly below: readonly unknown[];
}

export interface Layered<Schema extends z.ZodType> {
  /** Undefined if there are problems. */
  readonly parsed: z.output<Schema> | undefined;
  readonly problems: readonly ConfigProblem[];
  /** Says of a finding where its setting was written; what an override set is the override's fault. */
  readonly place: (finding: Finding) => ConfigProblem;
}

/**
 * Flags over environment over file over what lies below. Reports every problem there is, not only the first.
 * Throws CONFIG_INVALID only when the file can't be read.
 */
export async function readLayers<Schema extends z.ZodType>(sources: ConfigSources, layout: Layout<Schema>): Promise<Layered<Schema>> {
  // The YAML parser takes a while to load, and --dev has no file.
  const flow = [sources.env, sources.flags ?? {}].some((texts) =>
    Object.values(texts).some((text) => text !== undefined && looksLikeFlow(text)),
  );
  const yaml = sources.file !== undefined || flow ? await import('./config-file.ts') : undefined;
  const parseFlow = yaml?.parseFlow ?? ((text: string): unknown => text);
  const file = sources.file === undefined ? undefined : await yaml?.readConfigFile(resolve(sources.cwd ?? '.', sources.file));
  if (file && file.problems.length > 0) return { parsed: undefined, problems: file.problems, place: placer(file, []) };

  const cwd = resolve(sources.cwd ?? '.');
  const { json } = layout;
  const fileLayer = file ? absolutePaths(file.value, dirname(file.file), json) : {};
  const below = layout.below.reduce<unknown>((under, over) => mergeLayers(under, absolutePaths(over, cwd, json)), {});
  const layered = mergeLayers(below, fileLayer);
  const environment = environmentOverrides(sources.env, json, layered, parseFlow);
  const overrides: Override[] = [
    ...environment.overrides,
    ...flagOverrides(sources.flags ?? {}, layout.flagNames, json, layered, parseFlow),
  ];
  const input = absolutePaths(
    overrides.reduce<unknown>((tree, { path, value }) => withValue(tree, path, value), layered),
    cwd,
    json,
  );
  const place = placer(file, overrides);
  const result = layout.schema.safeParse(input);
  return {
    parsed: result.success ? result.data : undefined,
    problems: [...environment.problems, ...(result.success ? [] : findingsOf(result.error.issues, input, json).map(place))],
    place,
  };
}

function placer(file: ConfigFile | undefined, overrides: readonly Override[]): (finding: Finding) => ConfigProblem {
  return ({ path, message, hint, atKey }) => {
    const covering = overrides.findLast((override) => override.path.every((part, i) => part === path[i]));
    const where = covering?.where ?? file?.locate(path, atKey) ?? 'configuration';
    return { where, path: formatPath(path), message, hint };
  };
}

/** Makes the paths in one layer absolute: those of the file are relative to its folder. */
function absolutePaths(layer: unknown, folder: string, json: z.core.JSONSchema.BaseSchema): unknown {
  const visit = (value: unknown, schema: z.core.JSONSchema.BaseSchema | undefined): unknown => {
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
  return visit(layer, json);
}
