import { readFile } from 'node:fs/promises';
import { SignetError } from '../base/errors.ts';

/** The number of a group that is configured by name or number: group(5). Throws CONFIG_INVALID. */
export async function groupId(setting: string, group: string): Promise<number> {
  if (/^\d+$/.test(group)) return Number(group);
  const text = await readFile('/etc/group', 'utf8').catch(() => '');
  for (const line of text.split('\n')) {
    const [name, , id] = line.split(':');
    if (name === group && id !== undefined && /^\d+$/.test(id)) return Number(id);
  }
  throw new SignetError('CONFIG_INVALID', `${setting}: there is no group ${group} in /etc/group: give its number`);
}
