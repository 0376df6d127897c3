import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { SpiffeId } from '../../spiffe/id.ts';
import { replaceFile } from '../../store/atomic-file.ts';
import { openCertificateClient } from '../certificate-client.ts';
import type { EnvoyAddress } from '../envoy-config/settings.ts';
import { authority } from '../envoy-config/yaml.ts';
import type { Session } from '../session.ts';
import { isoTime } from '../times.ts';
import type { Answer } from './application.ts';
import { startClient } from './client.ts';
import type { Target } from './client.ts';
import { count, newTally, summaryOf, totals } from './tally.ts';
import type { Tally } from './tally.ts';
import { sendSteadily, warmUp } from './traffic.ts';

export interface LoadTarget {
  readonly address: EnvoyAddress;
  readonly spiffeId: SpiffeId;
}

export interface LoadSettings {
  readonly server: EnvoyAddress;
  readonly ca: string;
  readonly tokenFile: string;
  readonly targets: readonly LoadTarget[];
  /** Requests a second, over all targets. */
  readonly rate: number;
  /** Where the newest line is kept, besides. */
  readonly out?: string;
}

/** A line of what it prints. */
export interface LoadLine {
  readonly at: string;
  /** True in the last one. */
  readonly ended: boolean;
  readonly requests: number;
  readonly failed: number;
  /** The longest time for which the client itself was held up, in ms: what no server is to blame for. */
  readonly heldUpMs: number;
  readonly services: readonly {
    readonly name: string;
    readonly requests: number;
    readonly failed: number;
    readonly distinctSerials: number;
    readonly longestGapMs: number;
    /** The newest reasons of failure. */
    readonly errors: readonly string[];
  }[];
}

const lineMs = 5000;

/** Sends requests until interrupted, and prints a line of JSON now and then, and at the end. */
export async function runLoad(settings: LoadSettings, session: Session): Promise<{ readonly requests: number; readonly failed: number }> {
  const { terminal, clock } = session;
  const stop = terminal.interrupted();
  const certificates = await openCertificateClient({
    server: authority(settings.server),
    caFile: settings.ca,
    serverName: undefined,
    tokenFile: settings.tokenFile,
    instance: undefined,
  });
  try {
    const client = await startClient(certificates, clock);
    const targets = settings.targets.map((target) => loadTarget(target, client.spiffeId));
    await warmUp(client, targets, stop);
    let tally = newTally(
      clock.now(),
      targets.map(({ name }) => name),
    );
    const delay = monitorEventLoopDelay({ resolution: 10 });
    delay.enable();
    const print = (ended: boolean): void => {
      const line = `${JSON.stringify(loadLine(tally, clock.now(), { ended, heldUpMs: Math.round(delay.max / 1e6) }))}\n`;
      terminal.out(line);
      if (settings.out !== undefined) replaceFile(settings.out, line);
    };
    const refreshing = client.keepFresh(stop);
    const printing = setInterval(() => {
      print(false);
    }, lineMs);
    await sendSteadily(
      targets,
      settings.rate / targets.length,
      async (target) => {
        const outcome = await client.call(target);
        tally = count(tally, target.name, outcome, clock.now());
      },
      stop,
    );
    clearInterval(printing);
    delay.disable();
    await refreshing;
    print(true);
    return totals(tally);
  } finally {
    certificates.close();
  }
}

function loadTarget({ address, spiffeId }: LoadTarget, client: string): Target {
  const name = spiffeId.slice(spiffeId.lastIndexOf('/') + 1);
  return { name, address, spiffeId, expected: (answer) => isChain(answer, spiffeId, client) };
}

/** Whether each service on the way is called as its identity ends, and saw exactly the one before it. */
export function isChain(answer: Answer, spiffeId: string, caller: string): boolean {
  if (answer.caller !== caller || !spiffeId.endsWith(`/${answer.service}`)) return false;
  const { next } = answer;
  if (next === undefined) return true;
  return isChain(next, `${spiffeId.slice(0, -answer.service.length)}${next.service}`, spiffeId);
}

export function loadLine(tally: Tally, now: number, { ended, heldUpMs }: Pick<LoadLine, 'ended' | 'heldUpMs'>): LoadLine {
  const { requests, failed, services } = summaryOf(tally, now);
  return {
    at: isoTime(now),
    ended,
    requests,
    failed,
    heldUpMs,
    services: services.map(({ name, serials, longestGapMs, errors, ...counts }) => ({
      name,
      requests: counts.requests,
      failed: counts.failed,
      distinctSerials: serials.length,
      longestGapMs,
      errors: errors.slice(-3),
    })),
  };
}
