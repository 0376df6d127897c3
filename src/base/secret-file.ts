import { readFile, stat } from 'node:fs/promises';
import { SignetError } from './errors.ts';

const longestSecret = 64 * 1024;

/** A key or passphrase without the newline at its end. Throws CONFIG_INVALID naming the setting, and nothing of the content. */
export async function readSecret(setting: string, file: string): Promise<string> {
  let content: string;
  try {
    if ((await stat(file)).size > longestSecret)
      throw new SignetError('CONFIG_INVALID', `${setting}: ${file} is too long to be a key or passphrase`);
    content = await readFile(file, 'utf8');
  } catch (error) {
    if (error instanceof SignetError) throw error;
    throw new SignetError('CONFIG_INVALID', `${setting}: ${file} can't be read`, { cause: error });
  }
  return content.replace(/\r?\n$/, '');
}
