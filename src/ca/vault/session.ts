import { backoffMs } from '../../base/backoff.ts';
import type { Clock, Random } from '../../base/clock.ts';
import { createDeadlineHeap, reached } from '../../base/deadline-heap.ts';
import { abortable, deadlineSignal } from '../../base/deadline.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { z } from 'zod';
import { leaseEnd, nextStep } from './lease.ts';
import type { Lease } from './lease.ts';
import { logIn, renew } from './login.ts';
import type { ConnectionSettings } from './settings.ts';
import { createTransport } from './transport.ts';
import type { VaultRequest } from './transport.ts';
import { isForbidden } from './vault-fault.ts';

/** Vault as somebody: logged in, and kept logged in. */
export interface VaultSession {
  /**
   * One try under our token. A token that turns out dead is replaced by one fresh login, once. Throws as Transport.send;
   * settles at once when aborted.
   */
  call<T>(request: Omit<VaultRequest, 'token' | 'secrets'>, schema: z.ZodType<T>, signal: AbortSignal): Promise<T>;
  close(): Promise<void>;
}

export interface VaultParts {
  /** How messages name this Vault. */
  readonly label: string;
  readonly connection: ConnectionSettings;
  readonly clock: Clock;
  readonly log: Log;
  readonly random?: Random;
}

const loginMs = 10_000;
const revokeMs = 2000;
/** A token this young that is not allowed has the wrong policies, and the next one would have them too. */
const youngMs = 5000;
const retry = { baseMs: 1000, maxMs: 30_000 };
/** Vault locks out who errs too often: a refused credential is not shown again at every certificate that is wanted. */
const refusedRetry = { baseMs: 2000, maxMs: 60_000 };

/** Logs in at the first call. */
export function createVaultSession({ label, connection, clock, log, random = Math.random }: VaultParts): VaultSession {
  const transport = createTransport({ label, connection, clock });
  const closed = new AbortController();
  const heap = createDeadlineHeap(clock, (error) => {
    log.error({ err: error }, `${label}: a deadline failed`);
  });
  let lease: Lease | undefined;
  let loggingIn: Promise<Lease> | undefined;
  let refused: { readonly until: number; readonly error: SignetError; readonly times: number } | undefined;
  let keeping: AbortController | undefined;

  async function login(): Promise<Lease> {
    if (refused && clock.now() < refused.until) throw refused.error;
    try {
      const granted = await logIn(label, connection.login, transport, deadlineSignal(loginMs, closed.signal));
      refused = undefined;
      return take({ ...granted, fullMs: granted.ttlMs });
    } catch (thrown) {
      const error = SignetError.from(thrown);
      if (error.code === 'AUTHORITY_REFUSED') {
        const times = (refused?.times ?? 0) + 1;
        refused = { until: clock.now() + backoffMs(times - 1, refusedRetry, random), error, times };
      }
      throw error;
    }
  }

  function take(granted: Omit<Lease, 'at'>): Lease {
    const taken = { ...granted, at: clock.now() };
    lease = taken;
    keep(taken);
    return taken;
  }

  /** The token to use, one that is not `dead`; all who need one share a login. */
  function token(dead: Lease | undefined): Promise<Lease> {
    if (lease && lease !== dead) return Promise.resolve(lease);
    loggingIn ??= login().finally(() => {
      loggingIn = undefined;
    });
    return loggingIn;
  }

  /** Sees to it that this lease has a successor before it ends. */
  function keep(held: Lease): void {
    keeping?.abort();
    keeping = new AbortController();
    const signal = AbortSignal.any([keeping.signal, closed.signal]);
    const step = nextStep(held, random);
    if (step)
      follow(held, step.what, step.at, signal).catch((error: unknown) => {
        log.error({ err: error }, `${label}: the token is no longer looked after`);
      });
  }

  async function follow(held: Lease, first: 'renew' | 'login', at: number, signal: AbortSignal): Promise<void> {
    let what = first;
    const isOver = (): boolean => signal.aborted;
    for (let failures = 0, next = at; ; failures++) {
      await reached(heap, next, signal);
      if (isOver()) return;
      try {
        if (what === 'login') await token(held);
        else take({ ...(await renew(held.token, transport, deadlineSignal(loginMs, signal))), fullMs: held.fullMs });
        return;
      } catch (thrown) {
        // A call may have had it replaced in the meantime.
        if (isOver()) return;
        const error = SignetError.from(thrown);
        const left = leaseEnd(held) - clock.now();
        log.warn(
          { err: error, leftMs: Math.max(0, left) },
          `${label}: the token could not be ${what === 'renew' ? 'renewed' : 'replaced'}`,
        );
        // Vault has said no to this token, or it will be over soon: another one, then.
        if (what === 'renew' && (error.code === 'AUTHORITY_REFUSED' || left < held.ttlMs / 6)) what = 'login';
        next = clock.now() + backoffMs(failures, retry, random);
      }
    }
  }

  return {
    async call(request, schema, signal) {
      if (signal.aborted) throw SignetError.from(signal.reason);
      const first = await abortable(token(undefined), signal);
      try {
        return await transport.send({ ...request, token: first.token }, schema, signal);
      } catch (error) {
        if (!isForbidden(error) || (lease === first && clock.now() - first.at < youngMs)) throw error;
      }
      const second = await abortable(token(first), signal);
      return transport.send({ ...request, token: second.token }, schema, signal);
    },
    async close() {
      closed.abort();
      heap.close();
      const last = lease;
      lease = undefined;
      if (last && connection.login.type !== 'token') await revoke(last.token);
      await transport.close();
    },
  };

  /** What we logged in for ourselves we give back; should Vault be away, it ends by itself. */
  async function revoke(token: string): Promise<void> {
    const signal = deadlineSignal(revokeMs);
    await transport.send({ method: 'POST', path: 'auth/token/revoke-self', body: {}, token }, z.unknown(), signal).catch(() => undefined);
  }
}
