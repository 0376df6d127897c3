import { takeToken } from '../../base/token-bucket.ts';
import type { Bucket } from '../../base/token-bucket.ts';
import type { Clock } from '../../base/clock.ts';
import { harmless } from '../../base/harmless.ts';

const longestLine = 2000;
const rate = { perSecond: 20, burst: 200 };

/** What a process prints, as lines of our log: none longer, and no more of them, than the log can bear. */
export interface OutputLines {
  write(text: string): void;
  /** What came after the last newline is a line as well. */
  end(): void;
}

export function createOutputLines(emit: (line: string) => void, clock: Clock): OutputLines {
  let rest = '';
  let cut = false;
  let bucket: Bucket | undefined;
  let leftOut = 0;

  function line(text: string): void {
    const clean = harmless(text.replace(/\r$/, ''));
    if (clean.trim() === '') return;
    const taken = takeToken(bucket, rate, clock.now());
    bucket = taken.bucket;
    if (!taken.taken) {
      leftOut++;
      return;
    }
    if (leftOut > 0) emit(`(${String(leftOut)} lines left out)`);
    leftOut = 0;
    emit(cut ? `${clean}...` : clean);
  }

  return {
    write(text) {
      const parts = text.split('\n');
      for (const [i, part] of parts.entries()) {
        cut ||= rest.length + part.length > longestLine;
        rest = (rest + part).slice(0, longestLine);
        if (i === parts.length - 1) break;
        line(rest);
        rest = '';
        cut = false;
      }
    },
    end() {
      line(rest);
      rest = '';
    },
  };
}
