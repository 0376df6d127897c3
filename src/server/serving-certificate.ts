import { isIP } from 'node:net';
import type { Clock } from '../base/clock.ts';
import type { DeadlineHeap } from '../base/deadline-heap.ts';
import type { Log } from '../base/log.ts';
import type { ControlPlaneCa, ServingCertificate } from '../ca/control-plane.ts';

export interface ServingCertificates {
  current(): ServingCertificate;
  close(): void;
}

const retryMs = 60_000;

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
  let current = await ca.issueServing(names);
  let cancel = plan();

  function plan(): () => void {
    return heap.at((clock.now() + current.notAfter) / 2, renew);
  }

  function renew(): void {
    ca.issueServing(names).then(
      (next) => {
        current = next;
        cancel = plan();
        log.info({ notAfter: next.notAfter }, "the server's own certificate was renewed");
        parts.changed();
      },
      (error: unknown) => {
        log.error({ err: error }, "the server's own certificate was not renewed; the next try is in a minute");
        cancel = heap.at(clock.now() + retryMs, renew);
      },
    );
  }

  return {
    current: () => current,
    close() {
      cancel();
    },
  };
}
