import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { SignetError } from '../../../src/base/errors.ts';
import type { Authority } from '../../../src/ca/authority.ts';
import { createDeadlineHeap } from '../../../src/base/deadline-heap.ts';
import { createAnchors } from '../../../src/server/anchors.ts';
import type { Anchors } from '../../../src/server/anchors.ts';
import type { Config } from '../../../src/server/config/schema.ts';
import { createAuthorityAnchors } from '../../../src/trust/authority-anchors.ts';
import type { BundleState } from '../../../src/trust/trust-bundle.ts';
import { sha256Hex } from '../../../src/x509/keys.ts';
import { openTrustBundle } from '../../../src/trust/trust-bundle.ts';
import type { TrustBundle } from '../../../src/trust/trust-bundle.ts';
import { pemEncode } from '../../../src/x509/pem.ts';
import { eventually } from '../../support/eventually.ts';
import { failureOf } from '../../support/failure.ts';
import { fakeAuthority } from '../../support/fake-authority.ts';
import { memoryCaState } from '../../support/memory-ca-state.ts';
import { recordingLog } from '../../support/recording-log.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';
import { tempFolder } from '../../support/temp.ts';

const clock = simulatedClock(Date.now());
const [one, two, three] = await Promise.all(['one', 'two', 'three'].map((name) => fakeAuthority({ clock, name })));
assert.ok(one && two && three);

/** A backend whose anchors a test can change, or take away. */
interface Backend extends Authority {
  answer: () => Promise<readonly Buffer[]>;
  change(): void;
  readonly listeners: Set<() => void>;
}

function backend(root: Buffer): Backend {
  assert.ok(one);
  const listeners = new Set<() => void>();
  const made: Backend = {
    ...one,
    listeners,
    answer: () => Promise.resolve([root]),
    anchors: () => made.answer(),
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    change() {
      for (const listener of listeners) listener();
    },
  };
  return made;
}

const isTrusted = (trust: TrustBundle, root: Buffer): boolean => trust.current().anchors.certificates.some((der) => der.equals(root));
const hour = 3_600_000;
const away = (): Promise<never> => Promise.reject(new SignetError('AUTHORITY_UNAVAILABLE', 'the CA is away'));
const never = new AbortController().signal;

type CaSettings = Partial<Pick<Config['ca'], 'trustedRoots' | 'distrustedAnchors'>> & {
  readonly backends: Readonly<Record<string, object>>;
};

/** As much of a configuration as anchors are drawn from. */
function configured(ca: CaSettings): Config {
  return { ca: { trustedRoots: [], distrustedAnchors: [], ...ca } } as unknown as Config;
}

interface World {
  readonly trust: TrustBundle;
  readonly anchors: Anchors;
  readonly log: ReturnType<typeof recordingLog>;
  readonly audit: string[];
  readonly waiting: () => readonly string[];
  /** Adopts and settles, as a start and a reload do. */
  use(authorities: Readonly<Record<string, Authority>>, config: Config): Promise<void>;
  later(ms: number): void;
  close(): void;
}

async function world(state: BundleState, bundleFile: string): Promise<World> {
  const log = recordingLog();
  const audit: string[] = [];
  const heap = createDeadlineHeap(clock, (error) => {
    throw error as Error;
  });
  const trust = await openTrustBundle({ state, clock, log });
  const chosen = createAuthorityAnchors({
    trust,
    state,
    audit: (action, { authority, sha256 }) => Promise.resolve(void audit.push(`${action} ${authority} ${sha256}`)),
    longestLifeMs: () => hour,
    heap,
    clock,
    log,
  });
  const anchors = createAnchors({ trust, chosen, bundleFile, log });
  return {
    trust,
    anchors,
    log,
    audit,
    waiting: () => chosen.waiting().map(({ sha256 }) => sha256),
    async use(authorities, config) {
      await anchors.adopt(new Map(Object.entries(authorities)), config);
      await anchors.settle(config);
    },
    later(ms) {
      clock.advance(ms);
      heap.runDue();
    },
    close() {
      anchors.close();
      chosen.close();
      heap.close();
      trust.close();
    },
  };
}

describe('what workloads trust', () => {
  it('is the roots of all backends and of the files, in the bundle and in bundle.pem; changes follow', async () => {
    await using folder = await tempFolder();
    const main = backend(one.root);
    await writeFile(folder.file('roots.pem'), pemEncode('CERTIFICATE', two.root));
    const bundleFile = folder.file('bundle.pem');
    const { trust, ...w } = await world(memoryCaState(), bundleFile);
    await w.use({ main }, configured({ backends: { main: { type: 'fake' } }, trustedRoots: [folder.file('roots.pem')] }));
    assert.deepEqual(
      [one, two, three].map(({ root }) => isTrusted(trust, root)),
      [true, true, false],
    );
    assert.equal(await readFile(bundleFile, 'utf8'), trust.current().anchors.pem);
    const { generation } = trust.current();

    main.answer = () => Promise.resolve([one.root, three.root]);
    main.change();
    await eventually('the new root', () => isTrusted(trust, three.root) || undefined);
    assert.ok(trust.current().generation > generation);
    assert.deepEqual(w.audit, [`trust-anchor main ${sha256Hex(one.root)}`, `trust-anchor main ${sha256Hex(three.root)}`]);
    await eventually('the bundle file', async () => (await readFile(bundleFile, 'utf8')) === trust.current().anchors.pem || undefined);
    w.close();
    assert.equal(main.listeners.size, 0);
  });

  it('stays as it was while a backend is away, and when it answers with nothing', async () => {
    await using folder = await tempFolder();
    const state = memoryCaState();
    const config = configured({ backends: { main: { type: 'fake' } } });
    const main = backend(one.root);
    const before = await world(state, folder.file('bundle.pem'));
    await before.use({ main }, config);
    before.close();

    main.answer = away;
    const w = await world(state, folder.file('bundle.pem'));
    await w.use({ main }, config);
    assert.ok(isTrusted(w.trust, one.root), 'its last roots');
    assert.ok(w.log.lines.some(({ level, message }) => level === 'warn' && message.includes("can't be had")));
    main.answer = () => Promise.resolve([]);
    await w.anchors.refresh('main', never);
    assert.ok(isTrusted(w.trust, one.root), 'nothing is no bundle');
    w.close();
  });

  it('keeps a root that its backend gave up, or whose backend is gone, until the last certificate under it has ended; also over a restart', async () => {
    await using folder = await tempFolder();
    const state = memoryCaState();
    const [main, other] = [backend(one.root), backend(two.root)];
    let w = await world(state, folder.file('bundle.pem'));
    await w.use({ main, other }, configured({ backends: { main: { type: 'fake' }, other: { type: 'fake' } } }));
    main.answer = () => Promise.resolve([three.root]);
    const config = configured({ backends: { main: { type: 'fake' } } });
    await w.use({ main }, config);
    const trusted = (): readonly boolean[] => [one, two, three].map(({ root }) => isTrusted(w.trust, root));
    assert.deepEqual(trusted(), [true, true, true]);
    w.later(hour / 2);
    w.close();

    w = await world(state, folder.file('bundle.pem'));
    await w.use({ main }, config);
    assert.deepEqual(trusted(), [true, true, true]);
    clock.advance(hour / 2);
    await w.use({ main }, config);
    assert.deepEqual(trusted(), [false, false, true]);
    assert.ok(w.audit.includes(`distrust-anchor main ${sha256Hex(one.root)}`));
    assert.ok(w.audit.includes(`distrust-anchor other ${sha256Hex(two.root)}`));
    w.close();
  });

  it('drops a withdrawn root by itself when its time has come', async () => {
    await using folder = await tempFolder();
    const main = backend(one.root);
    const w = await world(memoryCaState(), folder.file('bundle.pem'));
    await w.use({ main }, configured({ backends: { main: { type: 'fake' } } }));
    main.answer = () => Promise.resolve([three.root]);
    main.change();
    await eventually('the new root', () => isTrusted(w.trust, three.root) || undefined);
    assert.ok(isTrusted(w.trust, one.root));
    w.later(hour);
    await eventually('the old one to go', () => !isTrusted(w.trust, one.root) || undefined);
    w.close();
  });

  it('takes out at once what the operator distrusts', async () => {
    await using folder = await tempFolder();
    const main = backend(one.root);
    main.answer = () => Promise.resolve([one.root, two.root]);
    const w = await world(memoryCaState(), folder.file('bundle.pem'));
    const backends = { main: { type: 'fake' } };
    await w.use({ main }, configured({ backends }));
    await w.use({ main }, configured({ backends, distrustedAnchors: [sha256Hex(two.root)] }));
    assert.deepEqual([isTrusted(w.trust, one.root), isTrusted(w.trust, two.root)], [true, false]);
    w.close();
  });

  it('takes out what the operator distrusts also while the backend is away', async () => {
    await using folder = await tempFolder();
    const state = memoryCaState();
    const backends = { main: { type: 'fake' }, other: { type: 'fake' } };
    const [main, other] = [backend(one.root), backend(two.root)];
    const before = await world(state, folder.file('bundle.pem'));
    await before.use({ main, other }, configured({ backends }));
    before.close();
    main.answer = away;
    const w = await world(state, folder.file('bundle.pem'));
    await w.use({ main, other }, configured({ backends, distrustedAnchors: [sha256Hex(one.root)] }));
    assert.deepEqual([isTrusted(w.trust, one.root), isTrusted(w.trust, two.root)], [false, true]);
    w.close();
  });

  it('is as it was after a configuration that did not come into force', async () => {
    await using folder = await tempFolder();
    const [main, other] = [backend(one.root), backend(two.root)];
    const w = await world(memoryCaState(), folder.file('bundle.pem'));
    await w.use({ main }, configured({ backends: { main: { type: 'fake' } } }));
    const restore = w.anchors.snapshot();
    await w.anchors.adopt(
      new Map([
        ['main', main],
        ['other', other],
      ]),
      configured({ backends: { main: {}, other: {} }, distrustedAnchors: [] }),
    );
    assert.ok(isTrusted(w.trust, two.root));
    await restore();
    assert.deepEqual([isTrusted(w.trust, one.root), isTrusted(w.trust, two.root)], [true, false]);
    w.close();
  });

  it('with pinned anchors holds only what is approved; the rest waits, and the log says for what', async () => {
    await using folder = await tempFolder();
    const main = backend(one.root);
    const pinned = (...hashes: string[]): Config =>
      configured({ backends: { main: { type: 'fake', anchors: 'pinned', approvedAnchors: hashes } } });
    const w = await world(memoryCaState(), folder.file('bundle.pem'));
    const failure = await failureOf(w.use({ main }, pinned()));
    assert.equal(failure.code, 'AUTHORITY_MISCONFIGURED');
    assert.match(failure.message, new RegExp(`${sha256Hex(one.root)}.*approvedAnchors`));

    await w.use({ main }, pinned(sha256Hex(one.root)));
    main.answer = () => Promise.resolve([one.root, two.root]);
    await w.anchors.refresh('main', never);
    assert.deepEqual([isTrusted(w.trust, one.root), isTrusted(w.trust, two.root)], [true, false]);
    assert.deepEqual(w.waiting(), [sha256Hex(two.root)]);
    assert.ok(w.log.lines.some(({ level, message }) => level === 'warn' && message.includes('approvedAnchors')));

    await w.use({ main }, pinned(sha256Hex(one.root), sha256Hex(two.root)));
    assert.ok(isTrusted(w.trust, two.root));
    assert.deepEqual(w.waiting(), []);
    w.close();
  });

  it('cannot be known at a first start while the backend is away: the start fails, and says so', async () => {
    await using folder = await tempFolder();
    const main = backend(one.root);
    main.answer = away;
    const w = await world(memoryCaState(), folder.file('b'));
    const failure = await failureOf(w.use({ main }, configured({ backends: { main: { type: 'fake' } } })));
    assert.equal(failure.code, 'AUTHORITY_UNAVAILABLE');
    w.close();
  });
});
