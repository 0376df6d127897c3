import { abortable, deadlineSignal } from '../base/deadline.ts';
import { SignetError } from '../base/errors.ts';
import type { Authority, SignedChain, SigningRequest } from './authority.ts';

export interface AuthorityBounds {
  /** Calls to the CA at one time. */
  readonly concurrency: number;
  /** Calls that may wait for their turn; more are refused at once. */
  readonly queue: number;
  /** For waiting and signing together. */
  readonly timeoutMs: number;
}

/**
 * The same authority, asked by no more than `concurrency` at a time. Throws OVERLOADED if too many wait, and
 * AUTHORITY_UNAVAILABLE after `timeoutMs`. A call that was aborted or timed out has left its place at once, even if the
 * CA is still busy with it: an authority that hangs must not lock out everybody after it recovers.
 */
export function boundAuthority(authority: Authority, { concurrency, queue, timeoutMs }: AuthorityBounds): Authority {
  let running = 0;
  const waiting = new Set<() => void>();

  function leave(): void {
    const [next] = waiting;
    if (next) {
      // Its place passes on: `running` stays as it is.
      waiting.delete(next);
      next();
    } else running--;
  }

  function sign(request: SigningRequest, signal: AbortSignal): Promise<SignedChain> {
    if (signal.aborted) return Promise.reject(SignetError.from(signal.reason));
    if (running >= concurrency && waiting.size >= queue) {
      return Promise.reject(
        new SignetError('OVERLOADED', `the CA ${authority.name} has too many requests waiting`, { retryAfterMs: 1000 }),
      );
    }
    return new Promise((resolve, reject) => {
      // By hand, as AbortSignal.any and timeout cost more than a tenth of a signature, on every certificate.
      const own = new AbortController();
      let entered = false;
      let settled = false;
      const timer = setTimeout(() => {
        fail(new SignetError('AUTHORITY_UNAVAILABLE', `the CA ${authority.name} did not answer in time`));
      }, timeoutMs);
      const onAbort = (): void => {
        fail(signal.reason);
      };
      signal.addEventListener('abort', onAbort, { once: true });

      /** True for the first to settle. */
      function settle(): boolean {
        if (settled) return false;
        settled = true;
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
        if (entered) leave();
        else waiting.delete(enter);
        return true;
      }
      function fail(error: unknown): void {
        if (!settle()) return;
        own.abort(error);
        reject(SignetError.from(error));
      }
      function enter(): void {
        entered = true;
        authority.sign(request, own.signal).then((chain) => {
          if (settle()) resolve(chain);
        }, fail);
      }

      if (running < concurrency) {
        running++;
        enter();
      } else waiting.add(enter);
    });
  }

  async function timed<T>(ask: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
    const bounded = deadlineSignal(timeoutMs, signal);
    return abortable(ask(bounded), bounded);
  }

  return {
    name: authority.name,
    type: authority.type,
    capabilities: authority.capabilities,
    sign,
    anchors: (signal) => timed((bounded) => authority.anchors(bounded), signal),
    issuersEnd: () => authority.issuersEnd(),
    health: (signal) => timed((bounded) => authority.health(bounded), signal),
    onChange: (listener) => authority.onChange(listener),
    close: () => authority.close(),
  };
}
