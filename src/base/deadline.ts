import { SignetError } from './errors.ts';

/** A signal that aborts when `parent` does or after `ms`, whichever is first. */
export function deadlineSignal(ms: number, parent?: AbortSignal): AbortSignal {
  const own = AbortSignal.timeout(Math.ceil(Math.max(0, Math.min(ms, 2_147_483_647))));
  return parent ? AbortSignal.any([parent, own]) : own;
}

/** Rejects as soon as `signal` aborts, even if `work` ignores it; `work`'s late result is dropped. */
export async function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) {
    work.catch(() => undefined);
    throw SignetError.from(signal.reason);
  }
  let onAbort: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => {
      reject(SignetError.from(signal.reason));
    };
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    if (onAbort) signal.removeEventListener('abort', onAbort);
  }
}
