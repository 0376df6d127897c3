import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { createOutputLines } from '../../../../src/ca/plugin/output-lines.ts';
import { simulatedClock } from '../../../support/simulated-clock.ts';

function collecting() {
  const lines: string[] = [];
  const clock = simulatedClock();
  return { lines, clock, output: createOutputLines((line) => lines.push(line), clock) };
}

describe("a plugin's output in the log", () => {
  it('is the same lines however the pipe cuts them', () => {
    fc.assert(
      fc.property(
        fc.array(fc.stringMatching(/^[a-z ]{0,20}[a-z]$/), { maxLength: 20 }),
        fc.array(fc.nat(400), { maxLength: 20 }),
        (words, cuts) => {
          const text = words.join('\n');
          const { lines, output } = collecting();
          let from = 0;
          for (const cut of [...cuts.toSorted((a, b) => a - b), text.length]) {
            output.write(text.slice(from, cut));
            from = Math.max(from, cut);
          }
          output.end();
          assert.deepEqual(lines, words);
        },
      ),
    );
  });

  it('has no line longer than 2000 characters, and none that a terminal would obey', () => {
    const { lines, output } = collecting();
    output.write(`${'x'.repeat(1_000_000)}\n\u001b[2Jred\r\n\n  \n`);
    assert.deepEqual(lines, [`${'x'.repeat(2000)}...`, '\u{fffd}[2Jred']);
  });

  it('is at most 200 lines at once and 20 a second, and says how many are missing', () => {
    const { lines, clock, output } = collecting();
    for (let i = 0; i < 5000; i++) output.write(`${String(i)}\n`);
    assert.equal(lines.length, 200);
    clock.advance(1000);
    output.write('later\n');
    assert.deepEqual(lines.slice(200), ['(4800 lines left out)', 'later']);
  });
});
