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

describe('a leaf that its authority says to have built', () => {
  it('is believed of one that builds in this process alone: of others it is read, and its signature verified', async () => {
    for (const builtHere of [true, false]) {
      const authority = await fakeAuthority({ clock, builtHere });
      const asked = signingRequest(trustDomain);
      // The first is read back by its issuer.
      await authority.sign(asked, never);
      const { certificates, issuerKeyId, leaf } = await authority.sign(asked, never);
      assert.ok(leaf);
      const damaged = Buffer.from(leaf.der);
      damaged[damaged.length - 1] = (damaged[damaged.length - 1] ?? 0) ^ 1;
      const judge = createIssuedChain({
        anchors: () => ({ generation: 1, anchors: checkAnchors([authority.root], clock.now()) }),
        clock,
        log: recordingLog(),
      });
      const signed: SignedChain = { certificates: [damaged, ...certificates.slice(1)], issuerKeyId, leaf: { ...leaf, der: damaged } };
      const outcome = async (): Promise<CheckedChain> => judge(authority, asked, signed, never);
      if (builtHere) assert.equal((await outcome()).certificates[0], damaged);
      else assert.match((await failureOf(outcome())).message, /signature/);
    }
  });
});
