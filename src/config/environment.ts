import type { z } from 'zod';
import { childSchema, formatPath, isRecord, knownKeys, valueAt } from './schema-path.ts';
import type { ConfigPath } from './schema-path.ts';
import type { ConfigProblem } from './problems.ts';
import { suggest } from './suggest.ts';

type Schema = z.core.JSONSchema.BaseSchema;

const prefix = 'SIGNET_';
/** Kubernetes sets these in every pod beside a Service named "signet"; they are none of ours. */
const fromKubernetes = /^SIGNET_(?:SERVICE_HOST|SERVICE_PORT|PORT)(?:_|$)/;

export interface Override {
  readonly path: ConfigPath;
  readonly value: unknown;
  /** The variable or flag, for messages. */
  readonly where: string;
}

export type ParseFlow = (text: string) => unknown;

/** A list or group in one line of YAML. */
export function looksLikeFlow(text: string): boolean {
  return /^\s*[[{]/.test(text);
}

export interface Overrides {
  readonly overrides: readonly Override[];
  readonly problems: readonly ConfigProblem[];
}

/**
 * `SIGNET_` and the path in upper case, `__` between its parts, numbers for items of a list:
 * SIGNET_IDENTITY__ISSUERS__0__JWKS. A list of words may be given as a,b,c; any list or group as YAML in one line.
 * An empty variable counts as unset. `configured` is what the layers below say: names in it keep their case. `parseFlow` is
 * asked only for what looksLikeFlow; it throws on what is no YAML.
 */
export function environmentOverrides(
  env: Readonly<Record<string, string | undefined>>,
  root: Schema,
  configured: unknown,
  parseFlow: ParseFlow,
): Overrides {
  const overrides: Override[] = [];
  const problems: ConfigProblem[] = [];
  for (const name of Object.keys(env).sort()) {
    const text = env[name];
    if (!name.startsWith(prefix) || text === undefined || text === '' || fromKubernetes.test(name)) continue;
    const resolved = resolve(name.slice(prefix.length).split('__'), root, configured);
    if ('path' in resolved) overrides.push({ path: resolved.path, value: valueOf(text, resolved.schema, parseFlow), where: name });
    else if (name.includes('__') || resolved.meant !== undefined) {
      const hint =
        resolved.meant === undefined
          ? `known here: ${resolved.known.map((key) => key.toUpperCase()).join(', ')}`
          : `did you mean ${resolved.meant}?`;
      problems.push({ where: name, path: '', message: 'there is no such setting', hint });
    }
    // Any other variable of that prefix is somebody else's.
  }
  return { overrides, problems };
}

type Resolved =
  | { readonly path: ConfigPath; readonly schema: Schema }
  | { readonly meant: string | undefined; readonly known: readonly string[] };

function resolve(segments: readonly string[], root: Schema, configured: unknown): Resolved {
  const path: (string | number)[] = [];
  let schema = root;
  for (const segment of segments) {
    const here = valueAt(configured, path);
    const known = knownKeys(schema, here);
    const key = keyFor(segment, known, here, schema);
    const next = key === undefined ? undefined : childSchema(schema, key, here);
    if (key === undefined || !next) {
      const meant = suggest(segment, known);
      const start = path.map((part) => `${String(part).toUpperCase()}__`).join('');
      return { meant: meant === undefined ? undefined : `${prefix}${start}${meant.toUpperCase()}`, known };
    }
    path.push(key);
    schema = next;
  }
  return { path, schema };
}

function keyFor(segment: string, known: readonly string[], here: unknown, schema: Schema): string | number | undefined {
  if (schema.type === 'array') return /^\d{1,3}$/.test(segment) ? Number(segment) : undefined;
  const exact = known.find((key) => key.toUpperCase() === segment);
  if (exact !== undefined) return exact;
  if (known.length > 0) return undefined;
  // Names of one's own, such as a backend's, have "-" but no "_".
  const name = segment.toLowerCase().replaceAll('_', '-');
  return (isRecord(here) ? Object.keys(here) : []).find((key) => key.toLowerCase() === name) ?? name;
}

/** Text from outside the file, as the type that the schema wants; what doesn't fit stays text, and zod says so. */
function valueOf(text: string, schema: Schema, parseFlow: ParseFlow): unknown {
  if (schema.type === 'number' || schema.type === 'integer') return /^-?\d+(?:\.\d+)?$/.test(text) ? Number(text) : text;
  if (schema.type === 'boolean') return text === 'true' ? true : text === 'false' ? false : text;
  if (schema.type === 'string') return text;
  if (looksLikeFlow(text)) {
    try {
      return parseFlow(text);
    } catch {
      return text;
    }
  }
  if (schema.type === 'array') return text.split(',').map((item) => item.trim());
  return text;
}

/** Flags by the dotted path of their setting; `names` says how each is spelt on the command line. */
export function flagOverrides(
  flags: Readonly<Record<string, string | undefined>>,
  names: Readonly<Record<string, string>>,
  root: Schema,
  configured: unknown,
  parseFlow: ParseFlow,
): Override[] {
  return Object.entries(flags).flatMap(([dotted, text]) => {
    if (text === undefined) return [];
    const path = dotted.split('.').map((part) => (/^\d+$/.test(part) ? Number(part) : part));
    let schema: Schema | undefined = root;
    for (const [i, key] of path.entries()) schema = schema && childSchema(schema, key, valueAt(configured, path.slice(0, i)));
    // A path that isn't there is a programming error; left to zod, it is reported as any unknown key.
    return [{ path, value: schema ? valueOf(text, schema, parseFlow) : text, where: names[dotted] ?? `the flag for ${formatPath(path)}` }];
  });
}
