/** What an agent tells the server of its subscribers is what they said, and not that nobody was there to say it. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Standing } from '../../../src/agent/subscribers.ts';
import { createTrustStream } from '../../../src/agent/trust-stream.ts';
import { createDeadlineHeap } from '../../../src/base/deadline-heap.ts';
import type { DeltaRequest } from '../../../src/sds/request.ts';
import { deltaRequest } from '../../../src/sds/request.ts';
import { deltaBody, withNonce } from '../../../src/sds/response.ts';
import { publishedAnchors } from '../../support/secret-material.ts';
import { silentLog } from '../../support/silent-log.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';

/** A trust stream to a server that is played here, with subscribers that stand as they are told to. */
async function world() {
  const clock = simulatedClock();
  const heap = createDeadlineHeap(clock, assert.ifError);
  const said: DeltaRequest[] = [];
  let send: (bytes: Buffer) => void = () => undefined;
  let standing: Standing = { kind: 'nobody' };
  let changed = (): void => undefined;
  const stream = createTrustStream({
    workload: 'web',
    upstream: {
      secrets(_credential, onMessage) {
        send = onMessage;
        return Promise.resolve({
          write: (bytes) => void said.push(deltaRequest(bytes)),
          ended: new Promise<void>(() => undefined),
        });
      },
    },
    withCredential: (work) => work({ kind: 'token', token: 'some.token' }),
    take: () => undefined,
    standing: () => standing,
    onStanding(listener) {
      changed = listener;
      return () => undefined;
    },
    clock,
    heap,
    random: () => 0.5,
    log: silentLog,
  });
  stream.start();
  await new Promise(setImmediate);
  return {
    /** Nonces that were acknowledged. */
    acknowledged: () => said.filter(({ nonce, error }) => nonce !== '' && error === undefined).map(({ nonce }) => nonce),
    trust(nonce: string, generation: number) {
      send(withNonce(deltaBody('1', [{ name: 'ROOTCA', published: publishedAnchors(generation, 1) }], []), nonce));
    },
    subscribers(now: Standing) {
      standing = now;
      changed();
    },
    pass(ms: number) {
      clock.advance(ms);
      heap.runDue();
    },
    [Symbol.dispose]() {
      stream.close();
      heap.close();
    },
  };
}

describe('an acknowledgement upstream', () => {
  it('waits after a start for the Envoys of before, and is theirs to give', async () => {
    using one = await world();
    one.trust('1', 1);
    one.pass(30_000);
    assert.deepEqual(one.acknowledged(), [], 'they may hold older trust, and be on their way back');
    one.subscribers({ kind: 'waiting', laggards: 1 });
    one.pass(3_600_000);
    assert.deepEqual(one.acknowledged(), []);
    one.subscribers({ kind: 'taken' });
    assert.deepEqual(one.acknowledged(), ['1']);
  });

  it('is given for nobody once nobody has been there for as long as an Envoy takes to come back', async () => {
    using one = await world();
    one.trust('1', 1);
    one.pass(44_000);
    assert.deepEqual(one.acknowledged(), []);
    one.pass(1000);
    assert.deepEqual(one.acknowledged(), ['1']);
    one.trust('2', 2);
    assert.deepEqual(one.acknowledged(), ['1', '2'], 'and at once from then on');
  });

  it('waits for a subscriber whose stream broke', async () => {
    using one = await world();
    one.subscribers({ kind: 'taken' });
    one.trust('1', 1);
    one.pass(600_000);
    one.subscribers({ kind: 'nobody' });
    one.trust('2', 2);
    one.pass(30_000);
    assert.deepEqual(one.acknowledged(), ['1']);
    one.subscribers({ kind: 'taken' });
    assert.deepEqual(one.acknowledged(), ['1', '2']);
  });
});
