import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { Clock, Random } from '../base/clock.ts';
import { deadlineSignal } from '../base/deadline.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { KubernetesClient } from './client.ts';
import { segment } from './client.ts';
import { decide, leaseTerms, readLease, see, writeLease } from './lease-record.ts';
import type { LeaseRecord, LeaseSeen, LeaseTerms } from './lease-record.ts';

export interface LeadershipParts {
  readonly client: KubernetesClient;
  readonly namespace: string;
  readonly name: string;
  /** Who we are: no other process is called so. */
  readonly self: string;
  readonly clock: Clock;
  /** Never jumps, and is the same as no other process's. */
  readonly monotonic: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly terms?: LeaseTerms | undefined;
  /** What the leader does, until its signal aborts. */
  readonly lead: (signal: AbortSignal) => Promise<void>;
  readonly changed: (leading: boolean) => void;
}

/**
 * Takes part in the election of a leader by a Lease until the signal aborts, and then gives up a lease that it holds. Whoever
 * can't renew stops leading before another may begin; a request that is under way then has a deadline shorter than the rest.
 */
export async function takePart(parts: LeadershipParts, signal: AbortSignal): Promise<void> {
  const { client, self, clock, monotonic, log } = parts;
  const terms = parts.terms ?? leaseTerms;
  const place = { namespace: parts.namespace, name: parts.name };
  const collection = `/apis/coordination.k8s.io/v1/namespaces/${segment(place.namespace)}/leases`;
  const path = `${collection}/${segment(place.name)}`;
  let seen: LeaseSeen | undefined;
  let complaint: string | undefined;

  const ended = (): boolean => signal.aborted;

  function complain(reason: string): void {
    if (complaint !== reason) log.warn({ lease: place, reason }, 'the lease can not be kept up; trying again');
    complaint = reason;
  }

  async function read(): Promise<LeaseRecord | undefined> {
    const bounded = deadlineSignal(terms.retryMs * 2, signal);
    const answer = await client.ask({ method: 'GET', path, answer: z.unknown() }, bounded);
    if (answer.ok) return readLease(answer.value, terms);
    if (answer.failure.kind === 'not-found') return undefined;
    throw new SignetError('INTERNAL', answer.failure.message);
  }

  /** False if somebody else was faster. */
  async function write(holder: string, before: LeaseRecord | undefined, bounded: AbortSignal): Promise<boolean> {
    const body = writeLease(place, holder, before, terms, clock.now());
    const call = before ? ({ method: 'PUT', path } as const) : ({ method: 'POST', path: collection } as const);
    const answer = await client.ask({ ...call, body, answer: z.unknown() }, bounded);
    if (!answer.ok) {
      if (answer.failure.kind === 'conflict') return false;
      throw new SignetError('INTERNAL', answer.failure.message);
    }
    seen = see(seen, readLease(answer.value, terms), monotonic.now());
    return true;
  }

  /** One look at the lease; whether it is ours after it. */
  async function attempt(): Promise<boolean> {
    const record = await read();
    seen = see(seen, record, monotonic.now());
    if (decide(self, seen, monotonic.now()) === 'wait') return false;
    return write(self, record, deadlineSignal(terms.retryMs * 2, signal));
  }

  async function pause(): Promise<void> {
    // Jitter, or those who wait would all ask at the same moment.
    await sleep(terms.retryMs * (1 + 0.2 * parts.random()), undefined, { signal, ref: false }).catch(() => undefined);
  }

  async function leadWhileHeld(since: number): Promise<void> {
    const lost = new AbortController();
    let renewedAt = since;
    parts.changed(true);
    log.info({ lease: place, holder: self }, 'leading');
    const work = parts.lead(AbortSignal.any([signal, lost.signal])).catch((error: unknown) => {
      if (!ended() && !lost.signal.aborted) log.error({ err: error }, 'what the leader does has failed');
    });
    while (!ended()) {
      await pause();
      if (ended()) break;
      const begun = monotonic.now();
      try {
        if (!(await attempt())) break;
        renewedAt = begun;
        complaint = undefined;
      } catch (error) {
        if (!ended()) complain(SignetError.from(error).message);
      }
      if (monotonic.now() - renewedAt >= terms.renewDeadlineMs) break;
    }
    lost.abort(new SignetError('CANCELLED', 'no longer the leader'));
    await work;
    parts.changed(false);
    if (!ended()) log.warn({ lease: place, holder: seen?.record?.holder ?? '' }, 'no longer leading');
  }

  while (!ended()) {
    const begun = monotonic.now();
    try {
      if (await attempt()) await leadWhileHeld(begun);
      complaint = undefined;
    } catch (error) {
      if (!ended()) complain(SignetError.from(error).message);
    }
    if (!ended()) await pause();
  }
  if (seen?.record?.holder === self) {
    // The next one needn't wait for the end of the lease.
    await write('', seen.record, deadlineSignal(terms.retryMs)).catch(() => false);
  }
}
