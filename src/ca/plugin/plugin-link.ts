import { setTimeout as sleep } from 'node:timers/promises';
import { backoffMs } from '../../base/backoff.ts';
import type { BackoffLimits } from '../../base/backoff.ts';
import type { Random } from '../../base/clock.ts';
import { abortable, deadlineSignal } from '../../base/deadline.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { packageVersion } from '../../base/package-version.ts';
import type { TrustDomain } from '../../spiffe/id.ts';
import { openPluginClient } from './plugin-client.ts';
import type { PluginClient } from './plugin-client.ts';
import { misbehaved } from './plugin-error.ts';
import { renewed } from './plugin-source.ts';
import type { PluginEndpoint, PluginSource } from './plugin-source.ts';
import { checkTrust, sameTrust } from './plugin-trust.ts';
import type { PluginTrust } from './plugin-trust.ts';

export interface PluginLinkOptions {
  /** The plugin's name in the configuration. */
  readonly name: string;
  readonly trustDomain: TrustDomain;
  readonly source: PluginSource;
  /** From a start to the first answer and the first word of trust, in ms. */
  readonly startTimeoutMs: number;
  readonly random: Random;
  readonly log: Log;
  /** What the plugin says of its trust is another than before. */
  readonly onTrust: () => void;
  /** How often it is asked whether it is there, and how long it may take to say so, in ms. */
  readonly pulse?: Pulse;
}

export interface Pulse {
  readonly everyMs: number;
  readonly timeoutMs: number;
}

export interface PluginSession {
  readonly client: PluginClient;
  readonly exactLife: boolean;
  readonly signIntermediate: boolean;
}

/** A plugin that is kept reachable: started, greeted, and followed in what it trusts; and again, with back-off, after each fault. */
export interface PluginLink {
  /** The one that stands. Throws why there is none. */
  session(): PluginSession;
  /** As it last said. Kept when it is away. */
  trust(): PluginTrust | undefined;
  /** Why there is no session, or undefined. */
  fault(): SignetError | undefined;
  /** Resolves once it stands for the first time, or has failed to. */
  readonly settled: Promise<void>;
  close(): Promise<void>;
}

/** The one revision of the protocol that there is. */
const revision = 1;
/** After a stream of trust that failed, on a connection that may be well. */
const watchAgain: BackoffLimits = { baseMs: 200, maxMs: 200 };
/** A stream of trust that was ended in peace is opened again after 15 to 30 s. */
const askAgain: BackoffLimits = { baseMs: 30_000, maxMs: 30_000 };
const usualPulse: Pulse = { everyMs: 10_000, timeoutMs: 5000 };
/** One that sends without end is heard at this pace. */
const trustPaceMs = 250;

export function openPluginLink(options: PluginLinkOptions): PluginLink {
  const { name, trustDomain, source, startTimeoutMs, random, log } = options;
  const closing = new AbortController();
  let standing: (PluginSession & { readonly endpoint: PluginEndpoint }) | undefined;
  let trust: PluginTrust | undefined;
  let fault: SignetError | undefined = new SignetError('AUTHORITY_UNAVAILABLE', `plugin ${name} has not answered yet`);
  const settled = Promise.withResolvers<undefined>();
  const isClosing = (): boolean => closing.signal.aborted;
  const running = run();

  async function run(): Promise<void> {
    let failures = 0;
    while (!isClosing()) {
      try {
        await attend(() => {
          failures = 0;
          settled.resolve(undefined);
        });
        continue;
      } catch (error) {
        fault = SignetError.from(error);
      }
      await dismiss();
      settled.resolve(undefined);
      if (isClosing()) return;
      const waitMs = Math.round(backoffMs(failures++, source.retry, random));
      log.warn({ authority: name, err: fault, againInMs: waitMs }, 'the plugin is away: it is tried again');
      await pause(waitMs, closing.signal).catch(() => undefined);
    }
  }

  /** From acquiring an endpoint to its end. Returns when a new one should take its place; throws when it failed. */
  async function attend(stands: () => void): Promise<void> {
    const starting = deadlineSignal(startTimeoutMs, closing.signal);
    const endpoint = await timely(source.acquire(starting), starting);
    const client = openPluginClient(endpoint, name);
    const attended = new AbortController();
    const alive = AbortSignal.any([closing.signal, endpoint.gone, pulseOf(client, attended.signal)]);
    try {
      for (let first: AbortSignal | undefined = starting; ; first = undefined) {
        const deadline = AbortSignal.any([alive, first ?? deadlineSignal(startTimeoutMs)]);
        const session = await timely(greet(client, deadline), deadline);
        await followTrust(client, alive, deadline, () => {
          const before = standing;
          standing = { ...session, endpoint };
          if (before && before.client !== client) void end(before);
          fault = undefined;
          stands();
        });
      }
    } catch (error) {
      // Before it is ended, which makes it gone.
      const why: unknown = endpoint.gone.aborted ? endpoint.gone.reason : error;
      if (standing?.client !== client) await end({ client, endpoint });
      if (why !== renewed) throw why;
    } finally {
      attended.abort();
    }
  }

  /**
   * Aborts when the plugin leaves a question without any answer: it hangs, or its connection is dead without anybody having said
   * so. Not by HTTP/2 PING: gRPC's servers in Go hang up on who sends one more often than every five minutes.
   */
  function pulseOf(client: PluginClient, until: AbortSignal): AbortSignal {
    const { everyMs, timeoutMs } = options.pulse ?? usualPulse;
    const stopped = new AbortController();
    async function beat(): Promise<void> {
      for (;;) {
        await pause(everyMs, until);
        const asked = deadlineSignal(timeoutMs, until);
        try {
          await client.health(asked);
        } catch {
          // Any other answer is one.
          if (asked.aborted && !until.aborted) break;
        }
      }
      stopped.abort(new SignetError('AUTHORITY_UNAVAILABLE', `plugin ${name} hangs: it didn't answer Health`));
    }
    beat().catch(() => undefined);
    return stopped.signal;
  }

  async function greet(client: PluginClient, signal: AbortSignal): Promise<PluginSession> {
    const answer = await client.handshake({ revision, trustDomain, signetVersion: packageVersion() }, signal);
    if (answer.revision !== revision) throw misbehaved(name, `it speaks revision ${answer.revision}, and was asked for ${revision}`);
    log.info({ authority: name, plugin: answer.pluginName, version: answer.pluginVersion }, 'the plugin has answered');
    const { exactLife = false, signIntermediate = false } = answer.capabilities ?? {};
    return { client, exactLife, signIntermediate };
  }

  /** Until the stream fails or ends, and then a while: what comes next is a handshake. */
  async function followTrust(client: PluginClient, alive: AbortSignal, deadline: AbortSignal, stands: () => void): Promise<void> {
    const stream = client.watchTrust(alive);
    let heard = false;
    let waitMs: number;
    try {
      for (;;) {
        const next = await (heard ? stream.next() : timely(stream.next(), deadline));
        if (next.done === true) {
          if (!heard) throw misbehaved(name, 'it ended its stream of trust without a word');
          break;
        }
        heard = true;
        take(checkTrust(next.value, name));
        stands();
        await pause(trustPaceMs, alive);
      }
      waitMs = backoffMs(0, askAgain, random);
    } catch (error) {
      // Who has never stood has nothing to fall back on.
      if (standing?.client !== client || alive.aborted) throw error;
      const failure = SignetError.from(error);
      const said = failure.code === 'AUTHORITY_MISBEHAVED' ? log.error : log.warn;
      said({ authority: name, err: failure }, 'the plugin no longer says what its leaves chain to; its last word stands');
      waitMs = backoffMs(0, watchAgain, random);
    } finally {
      void stream.return(undefined).catch(() => undefined);
    }
    // Who goes away in peace ends its stream first; that is noticed by the connection alone.
    await pause(waitMs, AbortSignal.any([alive, client.lost()])).catch(() => undefined);
    if (alive.aborted) throw SignetError.from(alive.reason);
  }

  function take(next: PluginTrust): void {
    if (trust && sameTrust(trust, next)) return;
    trust = next;
    options.onTrust();
  }

  async function dismiss(): Promise<void> {
    const before = standing;
    standing = undefined;
    if (before) await end(before);
  }

  async function end({ client, endpoint }: { readonly client: PluginClient; readonly endpoint: PluginEndpoint }): Promise<void> {
    client.close();
    await endpoint.release();
  }

  /** Waiting for a start is not what a caller asked for: its deadline says that the plugin is away. */
  async function timely<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
    try {
      return await abortable(work, signal);
    } catch (error) {
      const failure = SignetError.from(error);
      if (failure.code !== 'DEADLINE_EXCEEDED') throw failure;
      throw new SignetError('AUTHORITY_UNAVAILABLE', `plugin ${name} did not answer within startTimeout`, { cause: failure });
    }
  }

  return {
    session() {
      if (standing) return standing;
      throw fault ?? new SignetError('AUTHORITY_UNAVAILABLE', `plugin ${name} is being started`);
    },
    trust: () => trust,
    fault: () => (standing ? undefined : fault),
    settled: settled.promise,
    async close() {
      closing.abort(new SignetError('CANCELLED', `plugin ${name} is closed`));
      await running;
      await dismiss();
    },
  };
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, { signal });
  } catch {
    throw SignetError.from(signal.reason);
  }
}
