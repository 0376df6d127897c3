import { SignetError } from '../base/errors.ts';

const variable = 'SPIFFE_ENDPOINT_SOCKET';

/**
 * The path of the Workload API's socket: what is given, or what SPIFFE_ENDPOINT_SOCKET says (SPIFFE Workload Endpoint §4).
 * Either an absolute path or `unix://` before one. Throws CONFIG_INVALID saying what to do.
 */
export function endpointPath(given: string | undefined, environment: NodeJS.ProcessEnv): string {
  const from = given === undefined ? variable : 'socketPath';
  const text = given ?? environment[variable] ?? '';
  if (text === '')
    throw new SignetError('CONFIG_INVALID', `where is the Workload API? Set ${variable}=unix:///path/to/its.sock or pass socketPath`);
  if (text.startsWith('tcp:'))
    throw new SignetError('CONFIG_INVALID', `${from}: a Workload API on TCP is not supported: give it as unix:///path`);
  const path = text.startsWith('unix://') ? text.slice('unix://'.length) : text.startsWith('unix:') ? text.slice('unix:'.length) : text;
  if (!path.startsWith('/') || /[?#\0]/.test(path))
    throw new SignetError('CONFIG_INVALID', `${from} is not of the form unix:///path/to/the.sock`);
  return path;
}
