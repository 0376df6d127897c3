import type { Log } from './log.ts';

/** What has been opened, to be closed in the reverse order: at the end, or when a later step of the start fails. */
export interface Closing {
  add(name: string, close: () => Promise<void> | void): void;
  /** Closes everything once; one that fails is logged and doesn't keep the others from closing. */
  run(): Promise<void>;
}

export function createClosing(log: Log): Closing {
  const steps: { readonly name: string; readonly close: () => Promise<void> | void }[] = [];
  return {
    add(name, close) {
      steps.push({ name, close });
    },
    async run() {
      for (let step = steps.pop(); step; step = steps.pop()) {
        try {
          await step.close();
        } catch (error) {
          log.error({ err: error, part: step.name }, 'a part of the server did not close cleanly');
        }
      }
    },
  };
}
