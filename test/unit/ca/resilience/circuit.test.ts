import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  callBegan,
  callEnded,
  circuitWaitMs,
  closedCircuit,
  failuresToOpen,
  shownState,
  trialEveryMs,
} from '../../../../src/ca/resilience/circuit.ts';
import type { CallOutcome, Circuit } from '../../../../src/ca/resilience/circuit.ts';

const now = Date.UTC(2026, 0, 1);

function failing(times: number, at = now): Circuit {
  let circuit = closedCircuit;
  for (let i = 0; i < times; i++) circuit = callEnded(circuit, { trial: false, outcome: 'failed' }, at);
  return circuit;
}

describe('the circuit of a CA backend', () => {
  it('opens after some failures in a row, not before, and one answer begins the count anew', () => {
    const almost = failing(failuresToOpen - 1);
    assert.equal(shownState(almost), 'closed');
    assert.equal(shownState(callEnded(almost, { trial: false, outcome: 'failed' }, now)), 'open');
    assert.deepEqual(callEnded(almost, { trial: false, outcome: 'answered' }, now), closedCircuit);
  });

  it('open, lets one call a second through, also while earlier ones hang', () => {
    let circuit = failing(failuresToOpen);
    assert.equal(circuitWaitMs(circuit, now), trialEveryMs);
    for (let second = 1; second <= 5; second++) {
      const at = now + second * trialEveryMs;
      assert.equal(circuitWaitMs(circuit, at), 0);
      circuit = callBegan(circuit, at);
      assert.equal(circuitWaitMs(circuit, at), trialEveryMs);
      assert.equal(shownState(circuit), 'half-open');
    }
    for (let i = 0; i < 5; i++) circuit = callEnded(circuit, { trial: true, outcome: i < 3 ? 'failed' : 'abandoned' }, now);
    assert.equal(shownState(circuit), 'open');
  });

  it('a trial that was given up, or that fails after another one closed it, opens nothing', () => {
    const trial = callBegan(failing(failuresToOpen), now + trialEveryMs);
    assert.equal(shownState(callEnded(trial, { trial: true, outcome: 'abandoned' }, now)), 'open');
    let circuit = callEnded(trial, { trial: true, outcome: 'answered' }, now);
    for (let i = 0; i < 10; i++) circuit = callEnded(circuit, { trial: true, outcome: 'failed' }, now);
    assert.equal(shownState(circuit), 'closed');
  });

  it('a clock that went back by an hour holds up nobody for an hour', () => {
    assert.equal(circuitWaitMs(failing(failuresToOpen), now - 3_600_000), 0);
  });

  it('whatever happens, it is never longer than a second until somebody may try, and an answer closes it', () => {
    const step = fc.record({
      passes: fc.integer({ min: -5000, max: 5000 }),
      outcome: fc.constantFrom<CallOutcome>('answered', 'failed', 'abandoned'),
      hangs: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        let circuit = closedCircuit;
        let at = now;
        for (const { passes, outcome, hangs } of steps) {
          at += passes;
          const wait = circuitWaitMs(circuit, at);
          assert.ok(wait >= 0 && wait <= trialEveryMs);
          if (wait > 0) continue;
          const trial = circuit.state === 'open';
          circuit = callBegan(circuit, at);
          if (!hangs) circuit = callEnded(circuit, { trial, outcome }, at);
          if (!hangs && outcome === 'answered') assert.deepEqual(circuit, closedCircuit);
          if (circuit.state === 'closed') assert.ok(circuit.failures < failuresToOpen);
          else assert.ok(circuit.trials >= 0);
        }
      }),
    );
  });
});
