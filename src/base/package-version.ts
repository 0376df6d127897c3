import { readFileSync } from 'node:fs';

/** Of this program, by its package.json: beside src/ in a checkout and beside dist/ in the installed package. */
export function packageVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  return typeof manifest === 'object' && manifest !== null && 'version' in manifest ? String(manifest.version) : 'unknown';
}
