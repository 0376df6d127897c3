import { SignetError } from '../../base/errors.ts';
import { pause } from '../pause.ts';
import type { DemoClient, Target } from './client.ts';

/** A host that can't keep up is not to be drowned. */
const mostOutstanding = 100;
const warmUpMs = 30_000;

/** Until every service has answered once: from then on everything counts. */
export async function warmUp(client: DemoClient, targets: readonly Target[], signal: AbortSignal): Promise<void> {
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

/** Calls every target so often a second, whatever the answers take; resolves when the last of them is there. */
export async function sendSteadily(
  targets: readonly Target[],
  perSecond: number,
  call: (target: Target) => Promise<void>,
  stop: AbortSignal,
): Promise<void> {
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
