import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { SignedChain, SigningRequest } from '../../../src/ca/authority.ts';
import { createIssuedChain } from '../../../src/issuance/issued-chain.ts';
import { parseTrustDomain } from '../../../src/spiffe/id.ts';
import type { CheckedChain } from '../../../src/x509/material.ts';
import { checkAnchors } from '../../../src/x509/preflight.ts';
import { signingRequest } from '../../support/authority-suite.ts';
import { failureOf } from '../../support/failure.ts';
import { fakeAuthority } from '../../support/fake-authority.ts';
import { recordingLog } from '../../support/recording-log.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';

const clock = simulatedClock(Date.now());
const never = new AbortController().signal;
const trustDomain = parseTrustDomain('test.example');

/** A backend that signs under `fresh`, while the bundle, and what everybody took of it, are the test's to say. */
async function world(bundle: 'old' | 'both', active: 'old' | 'both') {
  const [old, fresh] = await Promise.all(['old', 'fresh'].map((name) => fakeAuthority({ clock, name })));
  assert.ok(old && fresh);
  const log = recordingLog();
  const anchors = { old: checkAnchors([old.root], clock.now()), both: checkAnchors([old.root, fresh.root], clock.now()) };
  const asked: SigningRequest = signingRequest(trustDomain);
  const signed: SignedChain = await fresh.sign(asked, never);
  let published = bundle;
  let taken = active;
  let refreshes = 0;
  const judge = createIssuedChain({
    anchors: () => ({ generation: 1, anchors: anchors[published] }),
    activeAnchors: () => anchors[taken],
    refreshAnchors: () => {
      refreshes++;
      return Promise.resolve();
    },
    clock,
    log,
  });
  return {
    log,
    judge: async (): Promise<CheckedChain> => judge(fresh, asked, signed, never),
    judgeNow: () => judge(fresh, asked, signed, never),
    publish: () => {
      published = 'both';
    },
    take: () => {
      taken = 'both';
    },
    refreshes: () => refreshes,
  };
}

describe('a chain to a new root of its CA', () => {
  it('is given out in the same turn of the loop once everybody has that root', async () => {
    const w = await world('both', 'both');
    assert.ok(!(w.judgeNow() instanceof Promise));
    assert.equal(w.refreshes(), 0);
  });

  it('is held back while the root is on its way: try again soon, and nothing of the CA is at fault', async () => {
    const w = await world('both', 'old');
    const failure = await failureOf(w.judge());
    assert.deepEqual([failure.code, failure.retryAfterMs], ['AUTHORITY_UNAVAILABLE', 1000]);
    assert.deepEqual(w.log.lines, []);
    w.take();
    await w.judge();
  });

  it('has the CA asked for its anchors at once when the bundle has no such root; found there, it is held back like any other', async () => {
    const w = await world('old', 'old');
    const failure = await failureOf(w.judge());
    assert.equal(failure.code, 'AUTHORITY_MISBEHAVED', 'the CA itself does not name it');
    assert.equal(w.refreshes(), 1);
    assert.ok(w.log.lines.some(({ level }) => level === 'error'));
    w.publish();
    assert.equal((await failureOf(w.judge())).code, 'AUTHORITY_UNAVAILABLE');
  });
});
