import { openAdminClient } from '../admin-client.ts';
import type { ServerStatus } from '../admin-messages.ts';
import { envoyBinary } from '../envoy-binary.ts';
import { deadlineSignal } from '../../base/deadline.ts';
import type { Session } from '../session.ts';
import type { DemoClient } from './client.ts';
import { startClient } from './client.ts';
import type { Stage } from './stage.ts';
import { idOf, setStage } from './stage.ts';
import type { DemoSummary } from './tally.ts';
import { count, newTally, summaryOf, totals } from './tally.ts';
import { sendSteadily, warmUp } from './traffic.ts';
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
    await sendSteadily(
      stage.targets,
      perSecond,
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
