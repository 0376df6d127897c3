import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import type { ConfigInput } from '../../src/server/config/schema.ts';

/** The blocks of YAML in one section of a how-to page, as people copy them. */
async function blocks(page: string, section: string): Promise<readonly [string, ...string[]]> {
  const text = await readFile(fileURLToPath(new URL(`../../docs/how-to/${page}`, import.meta.url)), 'utf8');
  const part = text.split(/^## /m).find((one) => one.startsWith(`${section}\n`)) ?? '';
  const [first, ...rest] = [...part.matchAll(/^```yaml\n([^]*?)^```/gm)].map(([, body = '']) => body);
  if (first === undefined) throw new Error(`${page} has no YAML under ${section}`);
  return [first, ...rest];
}

/** Every document under "Permissions". */
export async function pagePermissions(page: string): Promise<string> {
  return (await blocks(page, 'Permissions')).join('---\n');
}

/** The first block under "Configure". */
export async function pageSettings(page: string): Promise<ConfigInput> {
  return parse((await blocks(page, 'Configure'))[0]) as ConfigInput;
}
