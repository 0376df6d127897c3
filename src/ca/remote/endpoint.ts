import { isIP } from 'node:net';
import { judged } from '../../config/fields.ts';

/** Where a cloud's API is, if not at its public place. Plain HTTP only to this machine, for an emulator. */
export function endpointProblem(text: string): string | undefined {
  const url = text.length <= 2048 && URL.canParse(text) ? new URL(text) : undefined;
  if (!url) return 'must be an https:// URL';
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && isLoopback(url.hostname))) return 'must be an https:// URL';
  if (url.username !== '' || url.password !== '') return 'must not have a user or a password';
  if (url.pathname !== '/' || text.includes('?') || text.includes('#')) return 'must have neither a path nor a query';
  return undefined;
}

export const endpoint = () =>
  judged(endpointProblem)
    .optional()
    .describe("The API's address, if it is not the public one: a private endpoint. `https://`; `http://` only to this machine.");

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || (isIP(host) === 4 && host.startsWith('127.'));
}
