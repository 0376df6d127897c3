import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { z } from 'zod';
import { agentConfigJsonSchema } from '../src/agent/config/schema.ts';
import { configJsonSchema } from '../src/server/config/schema.ts';

type Schema = z.core.JSONSchema.BaseSchema;

/** A page that this writes, and the schema that it is written from; a unit test compares the two. */
export interface ReferencePage {
  readonly file: string;
  readonly schema: () => Schema;
}

const page = (name: string): string => fileURLToPath(new URL(`../docs/reference/${name}`, import.meta.url));
export const serverPage: ReferencePage = { file: page('configuration.md'), schema: configJsonSchema };
export const agentPage: ReferencePage = { file: page('agent-configuration.md'), schema: agentConfigJsonSchema };
const mark = '<!-- From here on made by scripts/config-reference.ts out of the schema: edit that, then run it. -->';

interface Section {
  readonly title: string;
  readonly description: string;
  readonly rows: readonly string[];
}

/** Every setting of the schema, in tables by group. */
function renderReference(schema: Schema): string {
  const sections: Section[] = [];
  collect('Top level', '', schema, sections);
  const body = sections.map(({ title, description, rows }) =>
    [
      `## ${title}`,
      ...(description === '' ? [] : ['', description]),
      '',
      '| Key | Type | Default | What it is |',
      '|---|---|---|---|',
      ...rows,
      '',
    ].join('\n'),
  );
  return `${mark}\n\n${body.join('\n')}`;
}

function collect(path: string, description: string, schema: Schema, sections: Section[]): void {
  const inner: (() => void)[] = [];
  const rows = Object.entries(schema.properties ?? {}).flatMap(([key, property]) => {
    if (typeof property !== 'object') return [];
    const here = path === 'Top level' ? key : `${path}.${key}`;
    for (const [where, group] of groupsIn(here, property))
      inner.push(() => {
        collect(where, group === property ? '' : (property.description ?? ''), group, sections);
      });
    const required = schema.required?.includes(key) === true;
    return [
      `| \`${key}\` | ${typeOf(property)} | ${required ? '(required)' : defaultOf(property)} | ${escape(property.description ?? '')} |`,
    ];
  });
  if (rows.length > 0) sections.push({ title: path === 'Top level' ? path : `\`${path}\``, description, rows });
  for (const next of inner) next();
}

/** The groups of settings below a property: itself, its items, what is under names of one's own, each kind of a union. */
function groupsIn(path: string, schema: Schema): readonly (readonly [string, Schema])[] {
  const kinds = schema.oneOf ?? schema.anyOf;
  if (kinds) {
    return kinds.flatMap((kind) => {
      const type = kind.properties?.type;
      const name = typeof type === 'object' ? String(type.const) : '';
      return [[`${path} (type: ${name})`, kind] as const];
    });
  }
  if (typeof schema.items === 'object' && !Array.isArray(schema.items)) return groupsIn(`${path}[]`, schema.items);
  if (typeof schema.additionalProperties === 'object') return groupsIn(`${path}.NAME`, schema.additionalProperties);
  return schema.properties ? [[path, schema]] : [];
}

function typeOf(schema: Schema): string {
  if (schema.const !== undefined) return `\`${String(schema.const)}\``;
  if (schema.enum) return schema.enum.map((value) => `\`${String(value)}\``).join(', ');
  if (schema.oneOf) return 'group, see below';
  if (schema.type === 'array') return typeof schema.items === 'object' ? `list of ${plural(typeOf(schema.items as Schema))}` : 'list';
  if (typeof schema.additionalProperties === 'object') return `${typeOf(schema.additionalProperties)}, by name`;
  if (schema.type === 'object') return 'group';
  if (schema.type === 'integer') return 'whole number';
  const formats: Readonly<Record<string, string>> = {
    duration: 'duration',
    path: 'path',
    'path-or-url': 'path or URL',
    address: 'HOST:PORT',
  };
  return formats[schema.format ?? ''] ?? (schema.type === 'string' ? 'text' : String(schema.type));
}

function plural(type: string): string {
  if (type.startsWith('`')) return type;
  return type === 'text' ? 'texts' : type.startsWith('group') ? 'groups' : `${type}s`;
}

function defaultOf(schema: Schema): string {
  const value = schema.default;
  if (value === undefined) return '';
  if (Array.isArray(value) && value.length === 0) return 'none';
  if (typeof value === 'object' && value !== null && Object.keys(value).length === 0) return '';
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return `\`${JSON.stringify(value).replaceAll('"', '').replaceAll(/[:,]/g, '$& ')}\``;
  return Array.isArray(value)
    ? value.map((item) => `\`${String(item)}\``).join(', ')
    : `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``;
}

function escape(text: string): string {
  return text.replaceAll('|', '\\|');
}

/** The whole page: what people wrote, then the tables. */
export async function renderPage({ file, schema }: ReferencePage): Promise<string> {
  const text = await readFile(file, 'utf8');
  const [written = ''] = text.split(mark);
  return `${written}${renderReference(schema()).trimEnd()}\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const one of [serverPage, agentPage]) await writeFile(one.file, await renderPage(one));
}
