import { SignetError } from './errors.ts';

const reasons: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another program has that address',
  EADDRNOTAVAIL: 'this machine has no such address',
  EACCES: 'no permission to listen there',
  ENOTFOUND: 'that name has no address',
};

/** Why a listener can't start, in words that say which setting to change. */
export function listenError(setting: string, address: string, error: unknown): SignetError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  return new SignetError(
    'CONFIG_INVALID',
    `${setting}: can't listen on ${address}: ${reasons[code] ?? (code === '' ? 'unknown error' : code)}`,
    { cause: error },
  );
}
