import type { z } from 'zod';

type Schema = z.core.JSONSchema.BaseSchema;
export type ConfigPath = readonly (string | number)[];

/** `identity.issuers[0].allow`: how messages and documents name a setting. */
export function formatPath(path: ConfigPath): string {
  return path.map((part, i) => (typeof part === 'number' ? `[${String(part)}]` : i === 0 ? part : `.${part}`)).join('');
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isSchema(value: unknown): value is Schema {
  return isRecord(value);
}

/** The alternatives of a tagged union that `value` can still be: the one its `type` names, else all. */
function alternatives(schema: Schema, value: unknown): readonly Schema[] {
  const options = (schema.oneOf ?? schema.anyOf)?.filter(isSchema);
  if (!options) return [schema];
  const tag = isRecord(value) ? value.type : undefined;
  const named = options.filter((option) => {
    const type = option.properties?.type;
    return isSchema(type) && type.const === tag;
  });
  return named.length > 0 ? named : options;
}

/** The schema of `key` within `schema`, `value` being what is configured there so far. */
export function childSchema(schema: Schema, key: string | number, value: unknown): Schema | undefined {
  for (const option of alternatives(schema, value)) {
    if (typeof key === 'number') {
      if (isSchema(option.items)) return option.items;
      continue;
    }
    const property = option.properties?.[key];
    if (isSchema(property)) return property;
    if (isSchema(option.additionalProperties)) return option.additionalProperties;
  }
  return undefined;
}

/** The keys that may stand at this place; empty where they are free. */
export function knownKeys(schema: Schema, value: unknown): string[] {
  return [...new Set(alternatives(schema, value).flatMap((option) => Object.keys(option.properties ?? {})))];
}

export function schemaAt(root: Schema, path: ConfigPath, value: unknown): Schema | undefined {
  let schema: Schema | undefined = root;
  let here = value;
  for (const key of path) {
    if (!schema) return undefined;
    schema = childSchema(schema, key, here);
    here = valueOf(here, key);
  }
  return schema;
}

export function valueAt(value: unknown, path: ConfigPath): unknown {
  return path.reduce<unknown>(valueOf, value);
}

function valueOf(value: unknown, key: string | number): unknown {
  if (typeof key === 'number') return Array.isArray(value) ? (value as readonly unknown[])[key] : undefined;
  return isRecord(value) && Object.hasOwn(value, key) ? value[key] : undefined;
}

/** Sets `path` in a tree of plain objects and arrays, making what is missing on the way; returns the new tree. */
export function withValue(tree: unknown, path: ConfigPath, value: unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return value;
  if (typeof key === 'number') {
    const list: unknown[] = Array.isArray(tree) ? [...(tree as readonly unknown[])] : [];
    list[key] = withValue(list[key], rest, value);
    return list;
  }
  return { ...(isRecord(tree) ? tree : {}), [key]: withValue(valueOf(tree, key), rest, value) };
}

/** Objects merge key by key, everything else of `over` replaces; lists are never joined. */
export function mergeLayers(under: unknown, over: unknown): unknown {
  if (!isRecord(under) || !isRecord(over)) return over === undefined ? under : over;
  const merged: Record<string, unknown> = { ...under };
  for (const [key, value] of Object.entries(over)) merged[key] = Object.hasOwn(under, key) ? mergeLayers(under[key], value) : value;
  return merged;
}
