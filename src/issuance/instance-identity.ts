import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Binding } from '../store/store.ts';
import { generateKeyPair } from '../x509/keys.ts';
import { checkIdentity } from '../x509/preflight.ts';
import type { Bindings } from './bindings.ts';
import type { Held, InstanceEntry } from './instance-entry.ts';
import type { Issued, Issuer } from './issuer.ts';
import { isLate } from './lateness.ts';

/** `absent`: no key is bound, or it is too old. `unchanged`: a new one could not end later than the one held. */
export type MadeIdentity = { readonly held: Held; readonly ageing: number | undefined } | 'absent' | 'unchanged';

const warnAtShareOfKeyAge = 0.75;

export interface IdentityMaker {
  /** Makes the next certificate of this instance, in its key mode. `force`: even if it ends no later. Throws what the issuer throws. */
  make(entry: InstanceEntry, force: boolean, signal: AbortSignal): Promise<MadeIdentity>;
}

export function createIdentityMaker(deps: {
  readonly issuer: Pick<Issuer, 'issue'>;
  readonly bindings: Pick<Bindings, 'get' | 'used'>;
  readonly clock: Clock;
  readonly log: Log;
}): IdentityMaker {
  const { issuer, bindings, clock, log } = deps;

  function urgency(entry: InstanceEntry): { readonly renewal: boolean; readonly late: boolean } {
    const renewal = isLive(entry);
    return { renewal, late: renewal && entry.held !== undefined && isLate(entry.held.issued.record, clock.now()) };
  }

  /** A new pair each time: a certificate's end is its key's end too. */
  async function forFreshKey(entry: InstanceEntry, signal: AbortSignal): Promise<MadeIdentity> {
    const key = generateKeyPair();
    const issued = await issuer.issue({ mode: 'server', caller: entry.caller, key, ...urgency(entry) }, signal);
    return { held: hold(issued, { inline: key.privateKey }, undefined, false), ageing: undefined };
  }

  async function forBoundKey(entry: InstanceEntry, force: boolean, signal: AbortSignal): Promise<MadeIdentity> {
    const bound = await bindings.get(entry.bearer, signal);
    if (!bound || bound.keyEnds <= clock.now()) return 'absent';
    if (bound.issuer !== entry.caller.issuer) {
      log.warn(
        { spiffeId: bound.spiffeId, instance: bound.instance, boundThrough: bound.issuer, callerOf: entry.caller.issuer },
        'the binding was made through another issuer; it is not used',
      );
      return 'absent';
    }
    if (!force && nothingToGain(entry.held, bound)) return 'unchanged';
    const issued = await issuer.issue({ mode: 'csr', caller: entry.caller, bound, ...urgency(entry) }, signal);
    try {
      await bindings.used(bound, signal);
    } catch (error) {
      // Only the note of use is lost; the certificate is on record and good.
      log.warn({ spiffeId: bound.spiffeId, instance: bound.instance, err: error }, 'the use of a binding could not be noted');
    }
    const held = hold(issued, { file: bound.keyFile }, bound.keyFile, endsWithKey(issued.notAfter, bound));
    const ageing = clock.now() >= bound.boundAt + warnAtShareOfKeyAge * (bound.keyEnds - bound.boundAt) ? bound.keyEnds : undefined;
    return { held, ageing };
  }

  return {
    make: (entry, force, signal) => (entry.mode === 'server' ? forFreshKey(entry, signal) : forBoundKey(entry, force, signal)),
  };
}

/** Its streams have a certificate already, which runs out. */
export function isLive(entry: InstanceEntry): boolean {
  return entry.held !== undefined && entry.listeners.size > 0;
}

function hold(issued: Issued, key: Parameters<typeof checkIdentity>[1], keyFile: string | undefined, final: boolean): Held {
  const identity = checkIdentity(issued.chain, key);
  return { published: { type: 'identity', version: issued.chain.serial, identity }, issued, keyFile, final };
}

function nothingToGain(held: Held | undefined, bound: Binding): boolean {
  return held?.keyFile === bound.keyFile && endsWithKey(held.issued.notAfter, bound);
}

/** Certificates end on whole seconds. */
function endsWithKey(notAfter: number, bound: Binding): boolean {
  return notAfter > bound.keyEnds - 1000;
}
