import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createActiveAnchors } from '../../../src/trust/active-anchors.ts';
import type { ActiveAnchors } from '../../../src/trust/active-anchors.ts';
import { openTrustBundle } from '../../../src/trust/trust-bundle.ts';
import type { TrustBundle } from '../../../src/trust/trust-bundle.ts';
import { fakeAuthority } from '../../support/fake-authority.ts';
import { memoryCaState } from '../../support/memory-ca-state.ts';
import { recordingLog } from '../../support/recording-log.ts';
import { silentLog } from '../../support/silent-log.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';

const limits = { settleMs: 2000, restartSettleMs: 10_000, patienceMs: 60_000 };

/** A bundle with one root in it, and streams that a test lets lag. */
async function bundleOfOne() {
  const clock = simulatedClock(Date.now());
  const [old, fresh] = await Promise.all(['old', 'new'].map(async (name) => (await fakeAuthority({ clock, name })).root));
  assert.ok(old && fresh);
  const trust: TrustBundle = await openTrustBundle({ state: memoryCaState(), clock, log: silentLog });
  await trust.setSource('authority:main', [old]);
  let acknowledged = 1;
  let streams = 3;
  const log = recordingLog();
  const active = createActiveAnchors({
    bundle: () => trust.current(),
    subscribe: trust.subscribe,
    lagging: (generation) => (acknowledged >= generation ? 0 : streams),
    clock,
    log,
    limits,
  });
  clock.advance(limits.restartSettleMs);
  return {
    clock,
    old,
    fresh,
    trust,
    active,
    log,
    rotate: () => trust.setSource('authority:main', [old, fresh]),
    acknowledge: () => {
      acknowledged = trust.current().generation;
    },
    leave: () => {
      streams = 0;
    },
  };
}

const holds = (active: ActiveAnchors, root: Buffer): boolean => active.current().certificates.some((der) => der.equals(root));

describe('a root that has just entered the bundle', () => {
  it('signs nothing before every connected stream has acknowledged the bundle with it, and then does', async () => {
    const { clock, old, fresh, active, rotate, acknowledge } = await bundleOfOne();
    await rotate();
    clock.advance(limits.settleMs);
    assert.deepEqual([holds(active, old), holds(active, fresh)], [true, false]);
    acknowledge();
    clock.advance(100);
    assert.deepEqual([holds(active, old), holds(active, fresh)], [true, true]);
  });

  it('waits a moment for those between two connections, even if nobody lags', async () => {
    const { clock, fresh, active, rotate, leave } = await bundleOfOne();
    leave();
    await rotate();
    assert.equal(holds(active, fresh), false);
    clock.advance(limits.settleMs - 1);
    assert.equal(holds(active, fresh), false);
    clock.advance(51);
    assert.equal(holds(active, fresh), true);
  });

  it('is not held up for ever by one that never answers, and the log says who was left behind', async () => {
    const { clock, fresh, active, rotate, log } = await bundleOfOne();
    await rotate();
    clock.advance(limits.patienceMs - 100);
    assert.equal(holds(active, fresh), false);
    clock.advance(100);
    assert.equal(holds(active, fresh), true);
    assert.ok(log.lines.some(({ level, message }) => level === 'warn' && message.includes('not every stream')));
  });

  it('is forgotten when it leaves the bundle before that', async () => {
    const { clock, old, fresh, trust, active, rotate, acknowledge } = await bundleOfOne();
    await rotate();
    await trust.setSource('authority:main', [old]);
    acknowledge();
    clock.advance(limits.settleMs);
    assert.deepEqual([holds(active, old), holds(active, fresh)], [true, false]);
    assert.equal(active.current(), trust.current().anchors);
  });

  it('lets who waits for it go on as soon as it is active, and not before', async () => {
    const { clock, fresh, active, rotate, acknowledge } = await bundleOfOne();
    await rotate();
    let settled = false;
    const waiting = active.whenActive([fresh], new AbortController().signal).then(() => {
      settled = true;
    });
    clock.advance(limits.settleMs);
    await new Promise((resolve) => setTimeout(resolve, 120));
    assert.equal(settled, false);
    acknowledge();
    clock.advance(100);
    await waiting;
  });
});

describe('the very first bundle', () => {
  it('is active at once: nobody has an older one', async () => {
    const clock = simulatedClock(Date.now());
    const { root } = await fakeAuthority({ clock });
    const trust = await openTrustBundle({ state: memoryCaState(), clock, log: silentLog });
    let there = false;
    const active = createActiveAnchors({
      bundle: () => (there ? trust.current() : undefined),
      subscribe: trust.subscribe,
      lagging: () => 0,
      clock,
      log: silentLog,
      limits,
    });
    there = true;
    await trust.setSource('authority:main', [root]);
    assert.ok(holds(active, root));
  });
});
