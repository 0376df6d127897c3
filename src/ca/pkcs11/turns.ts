import { SignetError } from '../../base/errors.ts';

export interface Turns {
  /** Resolves once fewer than the limit have one; what it gives ends the turn. Throws CANCELLED or DEADLINE_EXCEEDED by its signal. */
  take(signal: AbortSignal): Promise<() => void>;
}

/** First come, first served. Who gives up while waiting leaves the queue at once. */
export function createTurns(limit: number): Turns {
  const waiting = new Set<() => void>();
  let taken = 0;

  function end(): void {
    const [next] = waiting;
    if (next) next();
    else taken--;
  }

  return {
    async take(signal) {
      if (signal.aborted) throw SignetError.from(signal.reason);
      if (taken < limit) taken++;
      else {
        await new Promise<void>((resolve, reject) => {
          const settle = (): void => {
            waiting.delete(begin);
            signal.removeEventListener('abort', giveUp);
          };
          const begin = (): void => {
            settle();
            resolve();
          };
          const giveUp = (): void => {
            settle();
            reject(SignetError.from(signal.reason));
          };
          waiting.add(begin);
          signal.addEventListener('abort', giveUp);
        });
      }
      return end;
    },
  };
}
