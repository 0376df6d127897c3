import type { ServerUnaryCall } from '@grpc/grpc-js';
import { SignetError } from '../base/errors.ts';
import { admit } from './admit.ts';
import { sotwRequest } from './request.ts';
import { sotwBody, versionOf } from './response.ts';
import { shownBy } from './shown.ts';
import type { StreamParts } from './stream.ts';
import { currentOf, hold, startSubscription } from './subscription.ts';
import type { Held, SentSecret } from './subscription.ts';

export type FetchCall = ServerUnaryCall<Buffer, Buffer>;

/**
 * The current secrets of the names asked for, once, whatever version the client has; unknown names are left out. What is
 * still being made is waited for. Resolves to a DiscoveryResponse; throws a SignetError, UNAVAILABLE where the wait was
 * too long. Not in the ledger: nothing says what became of it.
 */
export async function fetchSecrets(call: FetchCall, parts: StreamParts): Promise<Buffer> {
  const request = sotwRequest(call.request);
  const gone = new AbortController();
  const outcome = admit(shownBy(call), parts);
  call.once('cancelled', () => {
    if ('cancel' in outcome) outcome.cancel();
    gone.abort();
  });
  const { caller, leave } = 'cancel' in outcome ? await outcome.admitted : outcome;
  try {
    const state = startSubscription(parts.limits);
    for (const name of new Set(request.names)) hold(state, name, (known) => parts.source.lookup(caller, known));
    const secrets = await settled([...state.names.values()], parts, gone.signal);
    const refusal = parts.admission.refusal(caller);
    if (refusal) throw refusal;
    return sotwBody(versionOf(secrets), secrets);
  } finally {
    leave();
  }
}

/** Resolves once none is pending, with those that there are. */
function settled(names: readonly Held[], { clock, heap, limits }: StreamParts, signal: AbortSignal): Promise<readonly SentSecret[]> {
  const stops: (() => void)[] = [];
  const waited = new Promise<readonly SentSecret[]>((resolve, reject) => {
    const look = (): void => {
      try {
        const states = names.map((held) => ({ held, current: currentOf(held) }));
        if (states.some(({ current }) => current === 'pending')) return;
        resolve(
          states.flatMap(({ held, current }) =>
            typeof current === 'string' ? [] : [{ name: held.name, feed: held.feed, published: current }],
          ),
        );
      } catch (error) {
        reject(SignetError.from(error));
      }
    };
    const onGone = (): void => {
      reject(new SignetError('CANCELLED', 'the call was cancelled'));
    };
    for (const feed of new Set(names.map((held) => held.feed))) stops.push(feed.subscribe(look));
    stops.push(
      heap.at(clock.now() + limits.fetchTimeoutMs, () => {
        reject(new SignetError('AUTHORITY_UNAVAILABLE', 'a secret asked for is still being made: try again'));
      }),
    );
    signal.addEventListener('abort', onGone, { once: true });
    look();
  });
  return waited.finally(() => {
    for (const stop of stops) stop();
  });
}
