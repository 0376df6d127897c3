import { SignetError } from '../base/errors.ts';

/**
 * Runs `work` under a deadline and its caller's signal; settles when any of them does, even if `work` ignores its signal
 * (a late result is dropped). By hand, not by AbortSignal.any and Promise.race: those cost 10 us on every certificate.
 */
export function withSigningDeadline<T>(ms: number, parent: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  if (parent.aborted) return Promise.reject(SignetError.from(parent.reason));
  return new Promise<T>((resolve, reject) => {
    const controller = new AbortController();
    const release = (): void => {
      clearTimeout(timer);
      parent.removeEventListener('abort', onParent);
    };
    const stop = (reason: unknown): void => {
      release();
      reject(SignetError.from(reason));
      controller.abort(reason);
    };
    const onParent = (): void => {
      stop(parent.reason);
    };
    const timer = setTimeout(() => {
      stop(new SignetError('AUTHORITY_UNAVAILABLE', 'the CA did not answer in time'));
    }, ms);
    parent.addEventListener('abort', onParent);
    let pending: Promise<T>;
    try {
      pending = work(controller.signal);
    } catch (error) {
      pending = Promise.reject(SignetError.from(error));
    }
    pending.then(
      (value) => {
        release();
        resolve(value);
      },
      (error: unknown) => {
        release();
        reject(SignetError.from(error));
      },
    );
  });
}
