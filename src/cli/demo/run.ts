import { openAdminClient } from '../admin-client.ts';
import type { ServerStatus } from '../admin-messages.ts';
import { envoyBinary } from '../envoy-binary.ts';
import { deadlineSignal } from '../../base/deadline.ts';
import { SignetError } from '../../base/errors.ts';
import { pause } from '../pause.ts';
import type { Session } from '../session.ts';
import type { DemoClient, Target } from './client.ts';
import { startClient } from './client.ts';
import type { Stage } from './stage.ts';
import { idOf, setStage } from './stage.ts';
import type { DemoSummary } from './tally.ts';
import { count, newTally, summaryOf, totals } from './tally.ts';
import type { Shown, ShownService } from './view.ts';
import { ending, frame, line } from './view.ts';

export interface DemoOptions {
  readonly leafTtl: string;
  readonly forMs: number | undefined;
  /** stdout is kept for the summary; progress goes to stderr. */
  readonly quietOut: boolean;
}

/** Each service that often a second: with the onward call, thirty new connections a second in all. */
const perSecond = 10;
/** A host that can't keep up is not to be drowned. */
const mostOutstanding = 100;
const warmUpMs = 30_000;
const frameMs = 250;
const lineMs = 5000;
const tokenRenewalMs = 6 * 3_600_000;
const redraw = '\u001b[H\u001b[J';
const enterScreen = '\u001b[?1049h\u001b[?25l';
const leaveScreen = '\u001b[?25h\u001b[?1049l';
const services: readonly ShownService[] = [
  { name: 'web', spiffeId: idOf('web'), keyMode: 'server' },
  { name: 'orders', spiffeId: idOf('orders'), keyMode: 'csr' },
];

/** Brings everything up, sends requests until interrupted or for `forMs`, takes everything down. */
export async function runDemo(options: DemoOptions, session: Session): Promise<DemoSummary> {
  const { terminal, clock } = session;
  const tell = options.quietOut ? terminal.err : terminal.out;
  const progress = (text: string): void => {
    tell(`${text}\n`);
  };
  const interrupted = terminal.interrupted();
  const binary = await envoyBinary(undefined, { env: terminal.env, progress, signal: interrupted });
  const stage = await setStage({ leafTtl: options.leafTtl, envoyBinary: binary, env: terminal.env, clock, progress, signal: interrupted });
  try {
    const client = await startClient(stage.certificates, clock);
    await warmUp(client, stage.targets, interrupted);
    const stop = options.forMs === undefined ? interrupted : deadlineSignal(options.forMs, interrupted);
    const summary = await play({ options, session, stage, client, tell }, stop);
    tell(ending(summary, terminal));
    return summary;
  } finally {
    await stage.close();
  }
}

/** Until both services have answered once: from then on everything counts. */
async function warmUp(client: DemoClient, targets: readonly Target[], signal: AbortSignal): Promise<void> {
  const end = Date.now() + warmUpMs;
  for (const target of targets) {
    for (;;) {
      const outcome = await client.call(target);
      if (outcome.ok) break;
      signal.throwIfAborted();
      if (Date.now() > end) throw new SignetError('INTERNAL', `no answer yet: ${outcome.error}`);
      await pause(100, signal);
    }
  }
}

interface Cast {
  readonly options: DemoOptions;
  readonly session: Session;
  readonly stage: Stage;
  readonly client: DemoClient;
  readonly tell: (text: string) => void;
}

async function play({ options, session, stage, client, tell }: Cast, stop: AbortSignal): Promise<DemoSummary> {
  const { terminal, clock } = session;
  let tally = newTally(
    clock.now(),
    services.map(({ name }) => name),
  );
  let status: ServerStatus | undefined;
  let rate = 0;
  const shown = (): Shown => ({ tally, services, status, leafTtl: options.leafTtl, now: clock.now(), rate, admin: stage.data });

  const admin = openAdminClient({ data: stage.data });
  const watching = (async () => {
    try {
      for await (const next of admin.watchStatus(stop)) status = next;
    } catch {
      // The picture then lacks the times; requests are what counts.
    }
  })();
  const refreshing = client.keepFresh(stop);
  const tokens = setInterval(() => void stage.renewTokens().catch(() => undefined), tokenRenewalMs);

  let before = 0;
  const speed = setInterval(() => {
    const { requests } = totals(tally);
    rate = requests - before;
    before = requests;
  }, 1000);
  const live = terminal.interactive && !options.quietOut;
  const draw = (): void => {
    if (live) terminal.out(redraw + frame(shown(), terminal));
    else tell(line(shown()));
  };
  if (live) terminal.out(enterScreen);
  const drawing = setInterval(draw, live ? frameMs : lineMs);

  try {
    await send(
      stage.targets,
      async (target) => {
        const outcome = await client.call(target);
        tally = count(tally, target.name, outcome, clock.now());
      },
      stop,
    );
  } finally {
    for (const timer of [tokens, speed, drawing]) clearInterval(timer);
    if (live) terminal.out(leaveScreen);
  }
  await Promise.all([watching, refreshing]);
  admin.close();
  return summaryOf(tally, clock.now());
}

/** Calls every target at a steady rate, whatever the answers take; resolves when the last of them is there. */
async function send(targets: readonly Target[], call: (target: Target) => Promise<void>, stop: AbortSignal): Promise<void> {
  const outstanding = new Set<Promise<void>>();
  for (let next = Date.now(); !stop.aborted; next += 1000 / perSecond) {
    for (const target of targets) {
      if (outstanding.size >= mostOutstanding) continue;
      const one: Promise<void> = call(target).finally(() => outstanding.delete(one));
      outstanding.add(one);
    }
    await pause(next + 1000 / perSecond - Date.now(), stop);
  }
  await Promise.all(outstanding);
}
