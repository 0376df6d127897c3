import { z } from 'zod';
import { abortable } from '../../base/deadline.ts';
import { SignetError } from '../../base/errors.ts';
import { readSmallFile } from '../../base/small-file.ts';
import { readToken } from '../../base/token-file.ts';
import type { Lease } from './lease.ts';
import type { LoginSettings } from './settings.ts';
import type { Transport, VaultRequest } from './transport.ts';

const vaultToken = z.string().regex(/^[\x21-\x7e]{1,16384}$/);
const seconds = z.number().min(0).max(1e9);
const authSchema = z
  .object({ auth: z.object({ client_token: vaultToken, lease_duration: seconds, renewable: z.boolean() }) })
  .transform(({ auth }) => ({ token: auth.client_token, ttlMs: auth.lease_duration * 1000, renewable: auth.renewable }));
const lookupSchema = z.object({ data: z.object({ ttl: seconds, renewable: z.boolean().prefault(false) }) });

const longestSecret = 16 * 1024;

type Granted = Pick<Lease, 'token' | 'ttlMs' | 'renewable'>;

/** A token by the configured method; what it reads, it reads anew. Throws as Transport does, and AUTHORITY_MISCONFIGURED naming a file. */
export async function logIn(label: string, login: LoginSettings, transport: Transport, signal: AbortSignal): Promise<Granted> {
  await transport.reload(signal);
  if (login.type === 'token') {
    const token = await named(label, 'login.tokenFile', login.tokenFile, readToken, signal);
    // What it is good for is for Vault to say. A root token says 0, which is never.
    const { data } = await transport.send({ method: 'GET', path: 'auth/token/lookup-self', token }, lookupSchema, signal);
    return { token, ttlMs: data.ttl * 1000, renewable: data.renewable };
  }
  const { body, secrets } = await credential(label, login, signal);
  const request: VaultRequest = { method: 'POST', path: `auth/${login.mount}/login`, body, secrets };
  return transport.send(request, authSchema, signal);
}

/** The same token, for longer: as long as it was made for, or as its maximum lets it. */
export async function renew(token: string, transport: Transport, signal: AbortSignal): Promise<Granted> {
  return transport.send({ method: 'POST', path: 'auth/token/renew-self', body: {}, token }, authSchema, signal);
}

interface Credential {
  readonly body: Readonly<Record<string, string>>;
  readonly secrets: readonly string[];
}

async function credential(label: string, login: Exclude<LoginSettings, { type: 'token' }>, signal: AbortSignal): Promise<Credential> {
  switch (login.type) {
    case 'approle': {
      const roleId = await named(label, 'login.roleIdFile', login.roleIdFile, readLine, signal);
      const secretId = await named(label, 'login.secretIdFile', login.secretIdFile, readLine, signal);
      return { body: { role_id: roleId, secret_id: secretId }, secrets: [roleId, secretId] };
    }
    case 'kubernetes':
    case 'jwt': {
      const jwt = await named(label, 'login.tokenFile', login.tokenFile, readToken, signal);
      return { body: { role: login.role, jwt }, secrets: [jwt] };
    }
    case 'certificate':
      // The credential is the TLS connection's own.
      return { body: login.role === undefined ? {} : { name: login.role }, secrets: [] };
  }
}

async function readLine(file: string): Promise<string> {
  const text = (await readSmallFile(file, longestSecret)).toString('utf8').trim();
  if (!/^[\x21-\x7e]+$/.test(text)) throw new SignetError('INVALID_ARGUMENT', `${file} does not hold one secret`);
  return text;
}

async function named(
  label: string,
  setting: string,
  file: string,
  read: (file: string) => Promise<string>,
  signal: AbortSignal,
): Promise<string> {
  try {
    return await abortable(read(file), signal);
  } catch (error) {
    if (signal.aborted) throw SignetError.from(signal.reason);
    const why = error instanceof SignetError ? error.message : `${file} can't be read`;
    throw new SignetError('AUTHORITY_MISCONFIGURED', `${label}: ${setting}: ${why}`, { cause: error });
  }
}
