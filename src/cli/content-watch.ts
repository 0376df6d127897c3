import { readFile } from 'node:fs/promises';

const everyMs = 2000;

/**
 * Calls `changed` when a file has had another content for two looks in a row: half-written ones are waited out, and
 * however it is replaced (rename, swapped links, a network file system that tells nothing) it is seen. Returns how to stop.
 */
export function watchContent(file: string, changed: () => void, intervalMs = everyMs): () => void {
  let known: Buffer | undefined;
  let candidate: Buffer | undefined;
  let looking = false;

  async function look(): Promise<void> {
    // A file that is away for a moment is being replaced.
    const content = await readFile(file).catch(() => undefined);
    if (!content) return;
    known ??= content;
    if (content.equals(known)) {
      candidate = undefined;
      return;
    }
    if (candidate?.equals(content)) {
      known = content;
      candidate = undefined;
      changed();
      return;
    }
    candidate = content;
  }

  function tick(): void {
    if (looking) return;
    looking = true;
    void look().finally(() => {
      looking = false;
    });
  }
  tick();
  const timer = setInterval(tick, intervalMs);
  timer.unref();
  return () => {
    clearInterval(timer);
  };
}
