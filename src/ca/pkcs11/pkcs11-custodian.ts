import { hash } from 'node:crypto';
import { backoffMs } from '../../base/backoff.ts';
import { abortable } from '../../base/deadline.ts';
import { SignetError } from '../../base/errors.ts';
import { readSecret } from '../../base/secret-file.ts';
import { parseSubjectKey, sha256Hex } from '../../x509/keys.ts';
import { digestInfo, ecdsaFromRaw } from '../../x509/signature.ts';
import type { Custodian, Signer, SignerParts } from '../signer.ts';
import { checked, created, opened, signed } from './messages.ts';
import type { Pkcs11Settings } from './settings.ts';
import { isStaleError, startTokenProcess } from './token-process.ts';
import type { TokenProcess } from './token-process.ts';
import { locationOf } from './token.ts';
import { createTurns } from './turns.ts';

/** A key in an HSM, by its vendor's PKCS#11 module. */
export const pkcs11: Custodian<Pkcs11Settings> = {
  open: openPkcs11Signer,
  async createKey(settings, kind, parts, signal) {
    const token = startTokenProcess(1, parts.env);
    try {
      const pin = await readPin(settings, parts);
      const { keyId } = await abortable(token.call({ op: 'create', settings, pin, kind }, created, keyMakingMs), signal);
      // By its id as well, so that it is found again whatever else gets that label.
      const named = { ...settings, keyId };
      return { signer: await openPkcs11Signer(named, parts, signal), settings: named };
    } finally {
      token.end();
    }
  },
};

/** RSA keys take a small HSM a minute. */
const keyMakingMs = 300_000;
/** Often enough that a token which is back is used within seconds: opening costs a process, and asks for no PIN while it is away. */
const reopening = { baseMs: 500, maxMs: 2000 };

const forms: Readonly<Record<'ec-p256' | 'ec-p384' | 'rsa', Pick<Signer, 'algorithm'> & { readonly digest: 'sha256' | 'sha384' }>> = {
  'ec-p256': { algorithm: 'ecdsa-sha256', digest: 'sha256' },
  'ec-p384': { algorithm: 'ecdsa-sha384', digest: 'sha384' },
  rsa: { algorithm: 'rsa-sha256', digest: 'sha256' },
};

async function openPkcs11Signer(settings: Pkcs11Settings, parts: SignerParts, signal: AbortSignal): Promise<Signer> {
  const { clock, log } = parts;
  const location = locationOf(settings);
  const turns = createTurns(settings.sessions);
  let closed = false;
  let token: TokenProcess | undefined;
  let opening: Promise<TokenProcess> | undefined;
  /** The PIN that the token refused last, hashed: a few wrong ones lock it, so none is tried twice. */
  let refusedPin: string | undefined;
  let failure: { readonly error: SignetError; readonly until: number; readonly count: number } | undefined;

  const first = await abortable(openOnce(), signal).catch((error: unknown) => {
    closed = true;
    token?.end();
    throw error;
  });
  const { spki } = first.key;
  const subject = parseSubjectKey(spki);
  const { algorithm, digest } = forms[subject.algorithm];
  if (first.key.extractable)
    log.warn({ setting: parts.setting, location }, 'the token would hand this key out (CKA_EXTRACTABLE): make one that stays there');
  token = first.process;

  async function openOnce() {
    const pin = await readPin(settings, parts);
    const pinHash = sha256Hex(Buffer.from(pin));
    if (pinHash === refusedPin)
      throw new SignetError(
        'AUTHORITY_REFUSED',
        `PKCS#11: the token refused this PIN; it is not tried again, lest the token locks: ${location}`,
      );
    if (wasClosed()) throw new SignetError('CANCELLED', `PKCS#11: it was closed: ${location}`);
    const process = startTokenProcess(settings.sessions, parts.env);
    token = process;
    try {
      const key = await process.call({ op: 'open', settings, pin }, opened);
      refusedPin = undefined;
      return { process, key: { ...key, spki: Buffer.from(key.spki) } };
    } catch (error) {
      process.end();
      if (error instanceof SignetError && error.code === 'AUTHORITY_REFUSED') refusedPin = pinHash;
      throw error;
    }
  }

  async function reopen(): Promise<TokenProcess> {
    try {
      const { process, key } = await openOnce();
      if (!key.spki.equals(spki)) {
        process.end();
        throw new SignetError('AUTHORITY_MISCONFIGURED', `PKCS#11: there is another key now: ${location}`);
      }
      failure = undefined;
      log.info({ setting: parts.setting, location }, 'the token was opened anew');
      return process;
    } catch (thrown) {
      const error = awayNow(SignetError.from(thrown));
      const count = (failure?.count ?? 0) + 1;
      failure = { error, count, until: clock.now() + backoffMs(count - 1, reopening, Math.random) };
      log.warn({ setting: parts.setting, location, err: error }, 'the token could not be opened anew; it will be tried again');
      throw error;
    }
  }

  /** The token's process; a new one, if that has ended. Not at each call, while the token is away. */
  function current(): Promise<TokenProcess> {
    if (closed) return Promise.reject(new SignetError('AUTHORITY_UNAVAILABLE', `PKCS#11: it was closed: ${location}`));
    if (token?.alive && !opening) return Promise.resolve(token);
    if (failure && clock.now() < failure.until) return Promise.reject(failure.error);
    opening ??= reopen().finally(() => {
      opening = undefined;
    });
    return opening;
  }

  function wasClosed(): boolean {
    return closed;
  }

  /** Ends the process whose token is away, or has forgotten us. True if it is enough to begin anew. */
  function judge(process: TokenProcess, error: unknown): boolean {
    const stale = isStaleError(error);
    if (stale || (error instanceof SignetError && error.code === 'AUTHORITY_UNAVAILABLE')) process.end(stale);
    return stale;
  }

  async function call<T>(work: (process: TokenProcess) => Promise<T>): Promise<T> {
    const process = await current();
    try {
      return await work(process);
    } catch (error) {
      if (!judge(process, error)) throw error;
    }
    // One more, with sessions of today: what failed was ours alone, and nothing was signed.
    const anew = await current();
    try {
      return await work(anew);
    } catch (error) {
      judge(anew, error);
      throw error;
    }
  }

  return {
    type: 'pkcs11',
    location,
    spki,
    algorithm,
    async sign(tbs, signal) {
      const end = await turns.take(signal);
      const hashed = hash(digest, tbs, 'buffer');
      const data = subject.algorithm === 'rsa' ? digestInfo(hashed) : hashed;
      // A turn ends with the work, not with the caller's patience: the token is busy until then.
      const work = call((process) => process.call({ op: 'sign', data }, signed)).finally(end);
      const { signature } = await abortable(work, signal);
      return subject.algorithm === 'rsa' ? Buffer.from(signature) : ecdsaFromRaw(signature);
    },
    async health(signal) {
      try {
        await abortable(
          call((process) => process.call({ op: 'check' }, checked)),
          signal,
        );
        return { canSign: true, detail: `the token answers: ${location}` };
      } catch (error) {
        return { canSign: false, detail: SignetError.from(error).message };
      }
    },
    close() {
      closed = true;
      token?.end();
      return Promise.resolve();
    },
  };
}

/** What was there once and isn't now is away; a wrong setting it can't be. */
function awayNow(error: SignetError): SignetError {
  return error.code === 'AUTHORITY_MISCONFIGURED' && !error.message.includes('another key')
    ? new SignetError('AUTHORITY_UNAVAILABLE', error.message, { cause: error })
    : error;
}

async function readPin({ pinFile, pinEnvironment }: Pkcs11Settings, { setting, env }: SignerParts): Promise<string> {
  if (pinFile !== undefined) return readSecret(`${setting}.pinFile`, pinFile);
  const pin = pinEnvironment === undefined ? undefined : env[pinEnvironment];
  if (pin === undefined || pin === '')
    throw new SignetError('CONFIG_INVALID', `${setting}.pinEnvironment: the variable ${pinEnvironment ?? ''} is not set`);
  return pin;
}
