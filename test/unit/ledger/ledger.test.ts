import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { DeliveredSecret, Nack, StreamInfo } from '../../../src/ledger/delivery.ts';
import { createLedger } from '../../../src/ledger/ledger.ts';
import type { Ledger } from '../../../src/ledger/ledger.ts';
import type { Acknowledgement } from '../../../src/store/store.ts';
import { parseSpiffeId } from '../../../src/spiffe/id.ts';
import { eventually } from '../../support/eventually.ts';
import { silentLog } from '../../support/silent-log.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';

const nobody: Nack = { class: 'other', detail: '' };
const mismatch: Nack = { class: 'key-mismatch', detail: 'KEY_VALUES_MISMATCH' };
const badTrust: Nack = { class: 'bad-trust', detail: '' };

function streamOf(id: number, workload = 'web', instance: string | undefined = 'web-0'): StreamInfo {
  const caller = {
    issuer: 'test',
    subject: workload,
    spiffeId: parseSpiffeId(`spiffe://td.test/${workload}`),
    instance,
    authenticatedBy: 'token',
    credentialEnds: 0,
    tokenSeenAt: 0,
    provedBy: '',
  } as const;
  return { id, caller, api: 'sotw', openedAt: 0, nodeId: '', envoyVersion: '' };
}

const trust = (generation: number): DeliveredSecret => ({
  key: 'bundle',
  type: 'validation',
  version: `${String(generation)}.x`,
  generation,
  serial: undefined,
  keyOnHost: false,
});
const leaf = (serial: string, keyOnHost = false): DeliveredSecret => ({
  key: 'leaf',
  type: 'identity',
  version: serial,
  generation: undefined,
  serial,
  keyOnHost,
});

function world(acknowledge?: (batch: readonly Acknowledgement[]) => Promise<void>): { ledger: Ledger; written: Acknowledgement[] } {
  const written: Acknowledgement[] = [];
  const ledger = createLedger({
    acknowledge: async (batch) => {
      await acknowledge?.(batch);
      written.push(...batch);
    },
    clock: simulatedClock(),
    log: silentLog,
  });
  return { ledger, written };
}

const generations = (written: readonly Acknowledgement[]): readonly number[] => written.map(({ generation }) => generation);
const stateOf = (ledger: Ledger, id: number, key: string): string | undefined =>
  ledger
    .streams()
    .find((stream) => stream.id === id)
    ?.secrets.find((secret) => secret.key === key)?.state;

describe('what became of a secret', () => {
  it('is sent, then acknowledged or rejected, and forgotten with its stream', () => {
    const { ledger } = world();
    const stream = streamOf(1);
    ledger.opened(stream);
    ledger.sent(stream, leaf('01'));
    assert.equal(stateOf(ledger, 1, 'leaf'), 'sent');
    ledger.acknowledged(stream, leaf('01'));
    assert.equal(stateOf(ledger, 1, 'leaf'), 'acknowledged');
    ledger.sent(stream, leaf('02'));
    ledger.rejected(stream, leaf('02'), mismatch);
    assert.equal(stateOf(ledger, 1, 'leaf'), 'rejected');
    assert.equal(ledger.streams()[0]?.secrets[0]?.nack, mismatch);
    ledger.closed(stream, 'over');
    assert.deepEqual(ledger.streams(), []);
  });

  it('is a pending key only where the key is on the host', () => {
    const { ledger } = world();
    const stream = streamOf(1);
    ledger.opened(stream);
    for (const nack of [mismatch, { class: 'key-missing', detail: '' } as const]) {
      ledger.rejected(stream, leaf('01', true), nack);
      assert.equal(stateOf(ledger, 1, 'leaf'), 'pending-key');
      ledger.rejected(stream, leaf('01', false), nack);
      assert.equal(stateOf(ledger, 1, 'leaf'), 'rejected');
    }
    ledger.rejected(stream, leaf('01', true), { class: 'bad-chain', detail: '' });
    assert.equal(stateOf(ledger, 1, 'leaf'), 'rejected');
  });

  it('is told to who listens: outcomes at once, changes once a turn', async () => {
    const { ledger } = world();
    const outcomes: string[] = [];
    let changes = 0;
    const stops = [
      ledger.onOutcome(({ secret }) => outcomes.push(secret.state)),
      ledger.onChange(() => {
        changes++;
      }),
    ];
    const stream = streamOf(1);
    ledger.opened(stream);
    ledger.sent(stream, leaf('01'));
    ledger.acknowledged(stream, leaf('01'));
    ledger.rejected(stream, leaf('02', true), mismatch);
    assert.deepEqual(outcomes, ['acknowledged', 'pending-key']);
    await eventually('a change is heard', () => changes > 0 || undefined, 5_000, 1);
    assert.equal(changes, 1);
    for (const stop of stops) stop();
    ledger.closed(stream, 'over');
    assert.equal(outcomes.length, 2);
  });
});

describe('the evidence that an instance trusts a generation', () => {
  it('is each acknowledgement of trust, written once, and only ever advances', async () => {
    const { ledger, written } = world();
    const stream = streamOf(1);
    ledger.opened(stream);
    for (const generation of [2, 3, 3, 1, 2]) ledger.acknowledged(stream, trust(generation));
    await ledger.flush();
    assert.deepEqual(written, [{ spiffeId: 'spiffe://td.test/web', instance: 'web-0', generation: 3, at: written[0]?.at }]);
    ledger.acknowledged(stream, trust(2));
    ledger.acknowledged(stream, leaf('01'));
    await ledger.flush();
    assert.equal(written.length, 1);
  });

  it('is of each instance by itself, and of a caller without one too', async () => {
    const { ledger, written } = world();
    const streams = [streamOf(1), streamOf(2, 'web', 'web-1'), streamOf(3, 'api'), streamOf(4, 'cron', '')];
    for (const stream of streams) {
      ledger.opened(stream);
      ledger.acknowledged(stream, trust(5));
    }
    await ledger.flush();
    assert.deepEqual(
      written.map(({ spiffeId, instance }) => `${spiffeId} ${instance}`),
      ['spiffe://td.test/web web-0', 'spiffe://td.test/web web-1', 'spiffe://td.test/api web-0', 'spiffe://td.test/cron '],
    );
  });

  it('is not an ACK of the bytes that were refused, also on the next stream; newer bytes are', async () => {
    const { ledger, written } = world();
    const first = streamOf(1);
    ledger.opened(first);
    ledger.rejected(first, trust(2), badTrust);
    ledger.acknowledged(first, trust(2));
    assert.equal(stateOf(ledger, 1, 'bundle'), 'rejected');
    ledger.closed(first, 'over');
    const second = streamOf(2);
    ledger.opened(second);
    ledger.sent(second, trust(2));
    ledger.acknowledged(second, trust(2));
    assert.equal(stateOf(ledger, 2, 'bundle'), 'rejected');
    // An older version on its way meanwhile heals, but takes the refusal back no more than it proves the newer one.
    ledger.acknowledged(second, trust(1));
    ledger.acknowledged(second, trust(2));
    await ledger.flush();
    assert.deepEqual(generations(written), [1]);
    ledger.acknowledged(second, trust(3));
    await ledger.flush();
    assert.deepEqual(generations(written), [1, 3]);
    assert.equal(stateOf(ledger, 2, 'bundle'), 'acknowledged');
  });

  it("is held back while the identity is refused: the bundle's NACK is the identity's", async () => {
    const { ledger, written } = world();
    const [own, bundle] = [streamOf(1), streamOf(2)];
    for (const stream of [own, bundle]) ledger.opened(stream);
    ledger.rejected(own, leaf('01'), mismatch);
    ledger.rejected(bundle, trust(2), mismatch);
    assert.equal(stateOf(ledger, 2, 'bundle'), 'sent', 'not the fault of the bundle');
    assert.equal(ledger.streams()[1]?.secrets[0]?.nack, mismatch, 'but this is why it is not taken');
    ledger.acknowledged(bundle, trust(2));
    await ledger.flush();
    assert.deepEqual(written, [], 'nothing is proved while the identity is bad');
    ledger.acknowledged(own, leaf('02'));
    ledger.acknowledged(bundle, trust(2));
    await ledger.flush();
    assert.deepEqual(generations(written), [2], 'the bytes themselves were never judged, so now they count');
  });

  it("is not held back by an identity's words when the identity was not refused, nor by another instance's", () => {
    const { ledger } = world();
    const [one, other] = [streamOf(1), streamOf(2, 'web', 'web-1')];
    for (const stream of [one, other]) ledger.opened(stream);
    ledger.rejected(one, leaf('01'), mismatch);
    ledger.rejected(other, trust(2), mismatch);
    assert.equal(stateOf(ledger, 2, 'bundle'), 'rejected');
    ledger.rejected(one, trust(2), badTrust);
    assert.equal(stateOf(ledger, 1, 'bundle'), 'rejected', 'its own fault is its own');
    ledger.rejected(one, trust(3), nobody);
    assert.equal(stateOf(ledger, 1, 'bundle'), 'rejected');
  });

  it('is written one batch at a time, and again after a failure, without going back', async () => {
    let fail = true;
    let running = 0;
    const { ledger, written } = world(async () => {
      running++;
      assert.equal(running, 1);
      await new Promise((resolve) => setImmediate(resolve));
      running--;
      if (fail) throw new Error('disk full');
    });
    const stream = streamOf(1);
    ledger.opened(stream);
    ledger.acknowledged(stream, trust(2));
    await assert.rejects(ledger.flush(), /disk full/);
    fail = false;
    ledger.acknowledged(stream, trust(3));
    await Promise.all([ledger.flush(), ledger.flush()]);
    assert.deepEqual(generations(written), [3]);
    await ledger.close();
  });
});
