import { backoffMs } from '../base/backoff.ts';
import type { Clock, Random } from '../base/clock.ts';
import { reached } from '../base/deadline-heap.ts';
import type { DeadlineHeap } from '../base/deadline-heap.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { anchorsOf, openingRequest, readResponse, settlingRequest } from './delta-wire.ts';
import type { Standing } from './subscribers.ts';
import type { Credential, Upstream, UpstreamStream } from './upstream.ts';

export interface TrustStreamParts {
  readonly workload: string;
  readonly upstream: Pick<Upstream, 'secrets'>;
  /** Runs the work with the workload's own credential, and with its certificate if the token isn't taken. */
  readonly withCredential: <T>(work: (credential: Credential) => Promise<T>) => Promise<T>;
  /** New anchors of the trust domain; from here on the workload's subscribers are sent them. Throws a SignetError if they can't be used. */
  readonly take: (generation: number, anchors: readonly Buffer[]) => void;
  /** What the subscribers made of what was taken last. */
  readonly standing: () => Standing;
  /** Called when `standing` may have changed. Returns how to stop. */
  readonly onStanding: (listener: () => void) => () => void;
  readonly clock: Clock;
  readonly heap: DeadlineHeap;
  readonly random: Random;
  readonly log: Log;
}

export interface TrustStream {
  /** Once: until then nobody is asked anything. */
  start(): void;
  readonly connected: boolean;
  /** Subscribers that have not taken the newest trust, and for how long in ms. */
  lagging(): { readonly laggards: number; readonly sinceMs: number } | undefined;
  close(): void;
}

const name = 'ROOTCA';
const retry = { baseMs: 500, maxMs: 3000 };
/** A stream that ended with OK, as each does in time: back soon, but not all at once. */
const reopenWithinMs = 1000;
/** Who hasn't said by then is reported. */
const laggardAfterMs = 30_000;
/**
 * An Envoy whose stream broke, such as by a restart of the agent, trusts what it held until it is back: after 30 s at most
 * (`envoy_grpc.retry_policy`, default of `max_interval`), and a little for the connection.
 */
const returnMs = 45_000;

/**
 * One workload's trust, by incremental SDS, for as long as the agent runs. A response is acknowledged when the workload's
 * own subscribers have acknowledged what came of it, and refused when one of them refuses: the control plane changes
 * trust by this evidence. Where nobody is there, it is when nobody has been for as long as an Envoy takes to come back.
 */
export function createTrustStream(parts: TrustStreamParts): TrustStream {
  const { clock, heap, random } = parts;
  const log = parts.log;
  const closing = new AbortController();
  const { signal } = closing;
  let connected = false;
  /** The version that all subscribers hold. */
  let held: string | undefined;
  let unsettled: { readonly nonce: string; readonly version: string; readonly since: number } | undefined;
  let reported = false;
  /** Since when no subscriber is there. */
  let aloneSince: number | undefined = clock.now();
  let cancelWake: (() => void) | undefined;
  let stream: UpstreamStream | undefined;
  const stopWatching = parts.onStanding(settle);

  async function run(): Promise<void> {
    let failures = 0;
    while (!isClosed()) {
      const openedAt = clock.now();
      let wait = reopenWithinMs * random();
      try {
        await parts.withCredential(once);
        failures = 0;
      } catch (error) {
        if (isClosed()) return;
        const failure = SignetError.from(error);
        // A stream that stood for a while and broke is no row of failures.
        failures = connected && clock.now() - openedAt > retry.maxMs ? 1 : failures + 1;
        wait = Math.max(backoffMs(failures - 1, retry, random), failure.retryAfterMs ?? 0);
        log.warn({ workload: parts.workload, err: failure, failures }, 'the stream of trust to the server ended; what is held stays');
      }
      connected = false;
      stream = undefined;
      unsettled = undefined;
      await reached(heap, clock.now() + wait, signal);
    }
  }

  async function once(credential: Credential): Promise<void> {
    const opened = await parts.upstream.secrets(credential, receive, signal);
    stream = opened;
    const versions = new Map(held === undefined ? [] : [[name, held]]);
    opened.write(openingRequest({ nodeId: `signet-agent/${parts.workload}`, subscribe: [name], held: versions }));
    await opened.ended;
  }

  function receive(bytes: Buffer): void {
    connected = true;
    let nonce: string | undefined;
    try {
      const response = readResponse(bytes);
      ({ nonce } = response);
      if (response.removed.includes(name))
        log.warn({ workload: parts.workload }, 'the server has no trust for this workload; what is held stays');
      const resource = response.resources.find((one) => one.name === name);
      if (!resource) {
        stream?.write(settlingRequest(nonce));
        return;
      }
      parts.take(generationOf(resource.version), anchorsOf(resource.secret));
      unsettled = { nonce, version: resource.version, since: clock.now() };
      reported = false;
      settle();
    } catch (error) {
      const failure = SignetError.from(error);
      log.error({ workload: parts.workload, err: failure }, 'trust from the server was refused; what is held stays');
      if (nonce !== undefined) stream?.write(settlingRequest(nonce, failure.message));
    }
  }

  function settle(): void {
    const standing = parts.standing();
    aloneSince = standing.kind === 'nobody' ? (aloneSince ?? clock.now()) : undefined;
    if (!unsettled) return;
    if (aloneSince !== undefined && clock.now() < aloneSince + returnMs) {
      cancelWake?.();
      cancelWake = heap.at(aloneSince + returnMs, settle);
      return;
    }
    if (standing.kind === 'waiting') {
      watchLaggards();
      return;
    }
    const { nonce, version } = unsettled;
    unsettled = undefined;
    if (standing.kind !== 'refused') {
      held = version;
      stream?.write(settlingRequest(nonce));
    } else {
      log.warn({ workload: parts.workload, nack: standing.nack }, 'a subscriber refused the trust; the server is told');
      // The ledger upstream classifies by words such as these, and finds the class again.
      stream?.write(settlingRequest(nonce, `a subscriber of the agent refused it: ${standing.nack.class}: ${standing.nack.detail}`));
    }
  }

  function watchLaggards(): void {
    const waitingFor = unsettled;
    if (!waitingFor || reported) return;
    reported = true;
    heap.at(waitingFor.since + laggardAfterMs, () => {
      if (unsettled !== waitingFor) return;
      const standing = parts.standing();
      const laggards = standing.kind === 'waiting' ? standing.laggards : 0;
      log.warn(
        { workload: parts.workload, laggards, version: waitingFor.version },
        'subscribers have not taken the trust that they were sent',
      );
    });
  }

  function isClosed(): boolean {
    return signal.aborted;
  }

  return {
    start() {
      run().catch((error: unknown) => {
        log.error({ workload: parts.workload, err: error }, 'the stream of trust failed for good');
      });
    },
    get connected() {
      return connected;
    },
    lagging() {
      if (!unsettled) return undefined;
      const standing = parts.standing();
      return standing.kind === 'waiting' ? { laggards: standing.laggards, sinceMs: clock.now() - unsettled.since } : undefined;
    },
    close() {
      stopWatching();
      cancelWake?.();
      closing.abort(new SignetError('CANCELLED', 'the agent is stopping'));
    },
  };
}

/** `<generation>.<hash>`; 0 for a server that counts otherwise. */
function generationOf(version: string): number {
  const digits = /^(\d{1,15})\./.exec(version)?.[1];
  return digits === undefined ? 0 : Number(digits);
}
