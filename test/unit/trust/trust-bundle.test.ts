import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseSpiffeId } from '../../../src/spiffe/id.ts';
import { openSqliteStore } from '../../../src/store/sqlite/sqlite-store.ts';
import { openTrustBundle } from '../../../src/trust/trust-bundle.ts';
import type { BundleState, TrustBundle } from '../../../src/trust/trust-bundle.ts';
import { generateKeyPair } from '../../../src/x509/keys.ts';
import { failureOf } from '../../support/failure.ts';
import { fakeAuthority } from '../../support/fake-authority.ts';
import type { FakeAuthority } from '../../support/fake-authority.ts';
import { silentLog } from '../../support/silent-log.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';
import { tempFolder } from '../../support/temp.ts';

const clock = simulatedClock();
const authorities = await Promise.all(['a', 'b', 'c', 'd'].map((name) => fakeAuthority({ clock, name })));
const [a, b, c, d] = authorities.map((authority) => authority.root) as [Buffer, Buffer, Buffer, Buffer];
const leaf = await leafOf(authorities[0]);

async function leafOf(authority: FakeAuthority | undefined): Promise<Buffer> {
  assert.ok(authority);
  const { spki, spkiSha256 } = generateKeyPair();
  const now = clock.now();
  const request = {
    spki,
    spkiSha256,
    csr: () => Buffer.alloc(0),
    spiffeId: parseSpiffeId('spiffe://test.example/x'),
    notBefore: now,
    notAfter: now + 60_000,
  };
  return (await authority.sign(request, new AbortController().signal)).certificates[0];
}

/** The store's compare-and-set documents in memory, shared by as many bundles as a test opens: replicas. */
function fakeState(): BundleState & { writes: number; beforeWrite: (() => Promise<void>) | undefined } {
  const documents = new Map<string, { epoch: number; value: Buffer }>();
  const state: ReturnType<typeof fakeState> = {
    writes: 0,
    beforeWrite: undefined,
    read: (name) => Promise.resolve(documents.get(name)),
    async compareAndSet(name, expected, value) {
      const before = state.beforeWrite;
      state.beforeWrite = undefined;
      await before?.();
      if ((documents.get(name)?.epoch ?? 0) !== expected) return false;
      documents.set(name, { epoch: expected + 1, value });
      state.writes++;
      return true;
    },
  };
  return state;
}

const open = (state: BundleState): Promise<TrustBundle> => openTrustBundle({ state, clock, log: silentLog });
const rootsOf = (bundle: TrustBundle): Set<string> => new Set(bundle.current().anchors.certificates.map((der) => der.toString('hex')));
const setOf = (...roots: readonly Buffer[]): Set<string> => new Set(roots.map((der) => der.toString('hex')));

describe('the trust bundle', () => {
  it('is the union of its sources, canonical whatever the order and however often', async () => {
    const [one, two] = [await open(fakeState()), await open(fakeState())];
    await one.setSource('x', [a, b]);
    await one.setSource('y', [c, b]);
    await two.setSource('y', [b, c, b]);
    await two.setSource('x', [b, a]);
    assert.deepEqual(rootsOf(one), setOf(a, b, c));
    assert.equal(one.current().anchors.pem, two.current().anchors.pem);
    assert.equal(one.current().version.split('.')[1], two.current().version.split('.')[1]);
  });

  it('moves its generation when the bytes move, and only then; the same bytes are the same object', async () => {
    const bundle = await open(fakeState());
    await bundle.setSource('x', [a, b]);
    const first = bundle.current();
    assert.equal(first.generation, 1);
    assert.match(first.version, /^1\.[0-9a-f]{16}$/);
    await bundle.setSource('x', [b, a]);
    await bundle.setSource('y', [b]);
    assert.equal(bundle.current(), first);
    await bundle.setSource('y', [c]);
    assert.equal(bundle.current().generation, 2);
    await bundle.setSource('y', [b]);
    assert.equal(bundle.current().generation, 3, 'going back is a move, too');
  });

  it('is durable before it is visible, and survives a restart, each source with its last good', async () => {
    const state = fakeState();
    const bundle = await open(state);
    await bundle.setSource('x', [a]);
    let seen = 0;
    bundle.subscribe(() => {
      seen++;
      assert.equal(state.writes, 2);
    });
    state.beforeWrite = () => {
      assert.deepEqual(rootsOf(bundle), setOf(a), 'not visible yet');
      return Promise.resolve();
    };
    await bundle.setSource('y', [b]);
    assert.equal(seen, 1);
    const restarted = await open(state);
    assert.equal(restarted.current().version, bundle.current().version);
    assert.equal(restarted.hasSource('y'), true);
    await restarted.setSource('x', [a]);
    assert.deepEqual(rootsOf(restarted), setOf(a, b), 'a source that has not spoken yet is not forgotten');
    assert.equal(restarted.current().generation, 2);
  });

  it('is never empty: what is bad or nothing is refused, and the last good stays', async () => {
    const bundle = await open(fakeState());
    assert.throws(() => bundle.current(), { code: 'INTERNAL' });
    await bundle.setSource('x', [a]);
    for (const bad of [[], [leaf], [a, leaf], [Buffer.from('garbage')], [a.subarray(0, 100)]]) {
      assert.equal((await failureOf(bundle.setSource('x', bad))).code, 'INVALID_ARGUMENT');
    }
    assert.equal((await failureOf(bundle.retainSources([]))).code, 'INVALID_ARGUMENT');
    assert.deepEqual(rootsOf(bundle), setOf(a));
    assert.equal(bundle.current().generation, 1);
  });

  it('drops sources that the configuration no longer names', async () => {
    const bundle = await open(fakeState());
    await bundle.setSource('x', [a]);
    await bundle.setSource('gone', [b]);
    await bundle.retainSources(['x']);
    assert.deepEqual(rootsOf(bundle), setOf(a));
    assert.equal(bundle.hasSource('gone'), false);
  });

  it('keeps both when another process writes in between, and never shows a lower generation', async () => {
    const state = fakeState();
    const [one, two] = [await open(state), await open(state)];
    await one.setSource('x', [a]);
    state.beforeWrite = () => two.setSource('y', [b]);
    await one.setSource('z', [c]);
    assert.deepEqual(rootsOf(one), setOf(a, b, c));
    assert.equal(one.current().generation, 3);
    await two.refresh();
    assert.equal(two.current().version, one.current().version);
  });

  it('a store that fails leaves all as it was', async () => {
    const state = fakeState();
    const bundle = await open(state);
    await bundle.setSource('x', [a]);
    state.beforeWrite = () => Promise.reject(new Error('disk full'));
    await assert.rejects(bundle.setSource('x', [b]), /disk full/);
    assert.deepEqual(rootsOf(bundle), setOf(a));
    await bundle.setSource('x', [b]);
    assert.deepEqual(rootsOf(bundle), setOf(b));
    assert.equal(bundle.current().generation, 2);
  });

  it('for any sequence of changes: the union of the last good, generations that count the moves, as persisted', async () => {
    const sets = fc.subarray([a, b, c, d]);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.constantFrom('x', 'y', 'z'), sets), { minLength: 1, maxLength: 12 }), async (changes) => {
        const state = fakeState();
        const bundle = await open(state);
        const model = new Map<string, Buffer[]>();
        let generation = 0;
        let before = '';
        for (const [name, roots] of changes) {
          await bundle.setSource(name, roots).catch(() => undefined);
          if (roots.length > 0) model.set(name, roots);
          if (model.size === 0) continue;
          const union = setOf(...[...model.values()].flat());
          assert.deepEqual(rootsOf(bundle), union);
          const now = [...union].sort().join();
          if (now !== before) generation++;
          before = now;
          assert.equal(bundle.current().generation, generation);
        }
        if (model.size > 0) assert.equal((await open(state)).current().version, bundle.current().version);
      }),
      { numRuns: 60 },
    );
  });

  it('works on the real store', async () => {
    await using folder = await tempFolder();
    const store = await openSqliteStore({ file: folder.file('signet.db'), clock, log: silentLog });
    try {
      const bundle = await open(store.trust);
      await bundle.setSource('x', [a]);
      await bundle.setSource('y', [b]);
      assert.equal((await open(store.trust)).current().version, bundle.current().version);
      const entry = await store.trust.read('trust-bundle');
      assert.ok(entry);
      await store.trust.compareAndSet('trust-bundle', entry.epoch, Buffer.from('{"format":1'));
      assert.equal((await failureOf(open(store.trust))).code, 'STORE_CORRUPT');
    } finally {
      await store.close();
    }
  });
});
