import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SignetError } from '../../../../src/base/errors.ts';
import type { ErrorCode } from '../../../../src/base/errors.ts';
import type { Authority, SignedChain, SigningRequest } from '../../../../src/ca/authority.ts';
import { signingRequest } from '../../../../src/ca/conformance/authority-under-test.ts';
import { failuresToOpen } from '../../../../src/ca/resilience/circuit.ts';
import { guarded } from '../../../../src/ca/resilience/guarded-authority.ts';
import { parseTrustDomain } from '../../../../src/spiffe/id.ts';
import { fakeAuthority } from '../../../support/fake-authority.ts';
import { recordingLog } from '../../../support/recording-log.ts';
import { seededRandom } from '../../../support/seeded-random.ts';
import { simulatedClock } from '../../../support/simulated-clock.ts';

const never = new AbortController().signal;
const request = signingRequest(parseTrustDomain('test.example'));
const failing = (code: ErrorCode, retryAfterMs?: number) => (): Promise<SignedChain> =>
  Promise.reject(new SignetError(code, `said ${code}`, retryAfterMs === undefined ? {} : { retryAfterMs }));

/** A guard over a real in-memory CA whose next answers are scripted; pauses pass on the simulated clock. */
async function world(options: { readonly timeoutMs?: number } = {}) {
  const clock = simulatedClock();
  const log = recordingLog();
  const ca = await fakeAuthority({ clock });
  const script: ((signal: AbortSignal) => Promise<SignedChain>)[] = [];
  const pauses: number[] = [];
  let calls = 0;
  const inner: Authority = {
    ...ca,
    sign(asked: SigningRequest, signal) {
      calls++;
      return script.shift()?.(signal) ?? ca.sign(asked, signal);
    },
  };
  const authority = guarded(inner, {
    clock,
    random: seededRandom(5),
    log,
    timeoutMs: options.timeoutMs ?? 10_000,
    async pause(ms) {
      pauses.push(ms);
      clock.advance(Math.ceil(ms));
      await sleep(1);
    },
  });
  const { guard } = authority;
  assert.ok(guard);
  const sign = (signal = never): Promise<SignedChain> => authority.sign(request, signal);
  const code = async (signal = never): Promise<SignetError> => {
    try {
      await sign(signal);
    } catch (error) {
      return SignetError.from(error);
    }
    throw new Error('it signed');
  };
  /** Each call fails three times: its own try and its two retries. */
  const open = async (): Promise<void> => {
    for (let i = 0; i < failuresToOpen; i++) {
      script.push(failing('AUTHORITY_UNAVAILABLE'), failing('AUTHORITY_UNAVAILABLE'), failing('AUTHORITY_UNAVAILABLE'));
      await code();
    }
  };
  return { clock, log, ca, script, pauses, guard, authority, sign, code, open, calls: () => calls };
}

describe('a guarded CA backend', () => {
  it('is asked again, twice and after a moment each, when it was away', async () => {
    const { script, sign, pauses, calls, guard } = await world();
    script.push(failing('AUTHORITY_UNAVAILABLE'), failing('AUTHORITY_UNAVAILABLE'));
    assert.equal((await sign()).certificates.length, 2);
    assert.equal(calls(), 3);
    const [first = 0, second = 0] = pauses;
    assert.ok(first >= 50 && first <= 100 && second >= 100 && second <= 200, pauses.join());
    assert.equal(guard.circuit(), 'closed');
  });

  for (const refusal of ['AUTHORITY_REFUSED', 'AUTHORITY_MISCONFIGURED', 'AUTHORITY_MISBEHAVED', 'INVALID_ARGUMENT'] as const) {
    it(`is not asked again after ${refusal}, and a hundred of those open nothing: it is there`, async () => {
      const { script, code, calls, guard } = await world();
      for (let i = 0; i < 100; i++) {
        script.push(failing(refusal));
        assert.equal((await code()).code, refusal);
      }
      assert.equal(calls(), 100);
      assert.equal(guard.circuit(), 'closed');
    });
  }

  it('away: it is no longer asked, everybody is told so at once and when it is tried; the log has one line', async () => {
    const { open, code, calls, guard, log, clock } = await world();
    await open();
    assert.equal(guard.circuit(), 'open');
    const before = calls();
    for (let i = 0; i < 50; i++) {
      const failure = await code();
      assert.equal(failure.code, 'AUTHORITY_UNAVAILABLE');
      assert.match(failure.message, /CA backend fake is away/);
      assert.ok((failure.retryAfterMs ?? 0) > 0 && (failure.retryAfterMs ?? 0) <= 1000);
    }
    assert.equal(calls(), before);
    assert.equal(guard.refusal()?.code, 'AUTHORITY_UNAVAILABLE');
    assert.deepEqual(
      log.lines.map(({ level, fields }) => [level, 'circuit' in fields && fields.circuit]),
      [['error', 'open']],
    );
    clock.advance(1000);
    assert.equal(guard.refusal(), undefined);
  });

  it('back: the first call that gets through closes the circuit for all, and the log says how long it was away', async () => {
    const { open, sign, guard, log, clock, calls } = await world();
    await open();
    const before = calls();
    clock.advance(7_200_000);
    await sign();
    assert.equal(calls(), before + 1);
    assert.equal(guard.circuit(), 'closed');
    assert.deepEqual(log.lines.at(-1)?.fields, { authority: 'fake', circuit: 'closed', awayMs: 7_200_000 });
  });

  it('a trial is one try, and while it hangs the next second brings another: who hangs holds up nobody', async () => {
    const { open, script, sign, guard, clock } = await world();
    await open();
    clock.advance(1000);
    const leaves = new AbortController();
    script.push(() => new Promise<never>(() => undefined));
    const hanging = sign(leaves.signal);
    assert.equal(guard.circuit(), 'half-open');
    assert.equal(guard.refusal()?.code, 'AUTHORITY_UNAVAILABLE');
    clock.advance(1000);
    await sign();
    assert.equal(guard.circuit(), 'closed');
    leaves.abort(new SignetError('CANCELLED', 'gone'));
    await assert.rejects(hanging, { code: 'CANCELLED' });
  });

  it('who leaves, leaves at once, whatever the CA does: in a call, in a trial, between two tries', async () => {
    const { script, sign, open, clock, guard } = await world();
    for (const trial of [false, true]) {
      if (trial) {
        await open();
        clock.advance(1000);
      }
      const leaves = new AbortController();
      script.push(() => new Promise<never>(() => undefined));
      const waiting = sign(leaves.signal);
      leaves.abort(new SignetError('CANCELLED', 'gone'));
      await assert.rejects(waiting, { code: 'CANCELLED' });
      assert.equal(guard.circuit(), trial ? 'open' : 'closed', 'it tells nothing of the CA');
    }
    const plain = guarded(
      { ...(await fakeAuthority({ clock })), sign: failing('AUTHORITY_UNAVAILABLE', 60_000) },
      {
        clock,
        random: () => 0.5,
        log: recordingLog(),
        timeoutMs: 300_000,
      },
    );
    const leaves = new AbortController();
    const pausing = plain.sign(request, leaves.signal);
    setTimeout(() => {
      leaves.abort(new SignetError('CANCELLED', 'gone'));
    }, 5);
    await assert.rejects(pausing, { code: 'CANCELLED' });
  });

  it('that hangs is given up at the deadline, and so often in a row is away', async () => {
    const { script, code, guard, clock } = await world({ timeoutMs: 20 });
    for (let i = 0; i < failuresToOpen; i++) {
      script.push(() => {
        clock.advance(20_000);
        return new Promise<never>(() => undefined);
      });
      const failure = await code();
      assert.deepEqual([failure.code, failure.message], ['AUTHORITY_UNAVAILABLE', 'CA backend fake did not answer in time']);
    }
    assert.equal(guard.circuit(), 'open');
  });

  it('throttling: nobody asks it before the time it named, each waits for a moment of its own, and then it signs', async () => {
    const { script, sign, pauses, calls, clock, guard } = await world();
    script.push(failing('AUTHORITY_THROTTLED', 2000));
    const began = clock.now();
    await sign();
    assert.equal(calls(), 2);
    assert.ok(clock.now() - began >= 2000);
    assert.equal(pauses.length, 1);
    assert.equal(guard.circuit(), 'closed', 'it is alive');
  });

  it('throttling for longer than a call may take: everybody is told when to come back, no two at the same time, and it is left alone', async () => {
    const { script, code, calls, guard } = await world({ timeoutMs: 1000 });
    script.push(failing('AUTHORITY_THROTTLED', 30_000));
    const told = [await code()];
    for (let i = 0; i < 50; i++) told.push(await code());
    assert.equal(calls(), 1);
    assert.ok(told.every(({ code: is, retryAfterMs = 0 }) => is === 'AUTHORITY_THROTTLED' && retryAfterMs >= 30_000));
    assert.ok(new Set(told.map(({ retryAfterMs }) => retryAfterMs)).size > 40);
    assert.equal(guard.refusal()?.code, 'AUTHORITY_THROTTLED');
  });

  it('health tells of an open circuit, whatever the CA says of itself', async () => {
    const { open, authority, clock } = await world();
    assert.equal((await authority.health(never)).canSign, true);
    await open();
    clock.advance(90_000);
    const { canSign, detail } = await authority.health(never);
    assert.equal(canSign, false);
    assert.equal(detail, 'no signature for 1m30s (circuit open): said AUTHORITY_UNAVAILABLE');
  });

  it('one that signs in this process stays as it is: nothing stands before it', async () => {
    const inner = await fakeAuthority({ clock: simulatedClock(), builtHere: true });
    assert.equal(guarded(inner, { clock: simulatedClock(), random: Math.random, log: recordingLog(), timeoutMs: 1 }), inner);
  });
});
