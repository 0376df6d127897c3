import { isIP } from 'node:net';
import type { Clock } from '../base/clock.ts';
import type { DeadlineHeap } from '../base/deadline-heap.ts';
import type { Log } from '../base/log.ts';
import type { ControlPlaneCa, ServingCertificate } from '../ca/control-plane.ts';

export interface ServingCertificates {
  current(): ServingCertificate;
  /** Looks whether the clock was set back to before the certificate was made. Its own timer calls it each minute. */
  checkClock(): void;
  close(): void;
}

const retryMs = 60_000;
const clockCheckMs = 60_000;

/** The server's own certificate: made at each start, in memory only, and made anew at half-life. */
export async function openServingCertificates(parts: {
  readonly ca: ControlPlaneCa;
  readonly names: readonly string[];
  readonly heap: DeadlineHeap;
  readonly clock: Clock;
  readonly log: Log;
  /** Called with each one after the first. */
  readonly changed: () => void;
}): Promise<ServingCertificates> {
  const { ca, heap, clock, log } = parts;
  const names = {
    dnsNames: parts.names.filter((name) => isIP(name) === 0),
    ipAddresses: parts.names.filter((name) => isIP(name) !== 0),
  };
  let madeAt = clock.now();
  let current = await ca.issueServing(names);
  let cancel = plan();
  let closed = false;
  const timer = setInterval(checkClock, clockCheckMs);
  timer.unref();

  function plan(): () => void {
    return heap.at((clock.now() + current.notAfter) / 2, renew);
  }

  /** Made by a clock that was ahead, it is not valid yet to clients whose clocks are right, and its half-life is far off. */
  function checkClock(): void {
    if (clock.now() >= madeAt - clockCheckMs) return;
    cancel();
    log.warn({ byMs: madeAt - clock.now() }, "the clock was set back: the server's own certificate is made anew");
    renew();
  }

  function renew(): void {
    madeAt = clock.now();
    ca.issueServing(names).then(
      (next) => {
        if (closed) return;
        current = next;
        cancel = plan();
        log.info({ notAfter: next.notAfter }, "the server's own certificate was renewed");
        parts.changed();
      },
      (error: unknown) => {
        if (closed) return;
        log.error({ err: error }, "the server's own certificate was not renewed; the next try is in a minute");
        cancel = heap.at(clock.now() + retryMs, renew);
      },
    );
  }

  return {
    current: () => current,
    checkClock,
    close() {
      closed = true;
      clearInterval(timer);
      cancel();
    },
  };
}
