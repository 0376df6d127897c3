import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { SignetError } from '../../../src/base/errors.ts';
import type { Authority } from '../../../src/ca/authority.ts';
import { connectAnchors } from '../../../src/server/anchors.ts';
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

describe('what workloads trust', () => {
  it('is the roots of all backends and of the files, in the bundle and in bundle.pem; changes follow', async () => {
    await using folder = await tempFolder();
    const log = recordingLog();
    const trust = await openTrustBundle({ state: memoryCaState(), clock, log });
    const main = backend(one.root);
    await writeFile(folder.file('roots.pem'), pemEncode('CERTIFICATE', two.root));
    const bundleFile = folder.file('bundle.pem');
    const anchors = await connectAnchors({
      trust,
      authorities: new Map([['main', main]]),
      trustedRoots: [folder.file('roots.pem')],
      bundleFile,
      log,
    });
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
    await eventually('the bundle file', async () => (await readFile(bundleFile, 'utf8')) === trust.current().anchors.pem || undefined);
    anchors.close();
    assert.equal(main.listeners.size, 0);
    trust.close();
  });

  it('stays as it was while a backend is away, loses what the configuration no longer names, and is never empty', async () => {
    await using folder = await tempFolder();
    const log = recordingLog();
    const state = memoryCaState();
    const parts = { trustedRoots: [], bundleFile: folder.file('bundle.pem'), log };
    const trust = await openTrustBundle({ state, clock, log });
    const [main, other] = [backend(one.root), backend(two.root)];
    const both = new Map<string, Authority>([
      ['main', main],
      ['other', other],
    ]);
    (await connectAnchors({ ...parts, trust, authorities: both })).close();
    trust.close();

    const away = (): Promise<never> => Promise.reject(new SignetError('AUTHORITY_UNAVAILABLE', 'the CA is away'));
    main.answer = away;
    const again = await openTrustBundle({ state, clock, log });
    const anchors = await connectAnchors({ ...parts, trust: again, authorities: new Map([['main', main]]) });
    assert.deepEqual(
      [isTrusted(again, one.root), isTrusted(again, two.root)],
      [true, false],
      'its last roots, and no more those of the other',
    );
    assert.ok(log.lines.some(({ level, message }) => level === 'warn' && message.includes("can't be had")));

    main.answer = () => Promise.resolve([]);
    main.change();
    await eventually('a warning', () => log.lines.filter(({ level }) => level === 'warn').length > 1 || undefined);
    assert.ok(isTrusted(again, one.root), 'nothing is no bundle');
    main.answer = () => Promise.resolve([three.root]);
    await anchors.refresh();
    assert.deepEqual([isTrusted(again, one.root), isTrusted(again, three.root)], [false, true]);
    anchors.close();
    again.close();
  });

  it('cannot be known at a first start while the backend is away: the start fails, and says so', async () => {
    await using folder = await tempFolder();
    const log = recordingLog();
    const trust = await openTrustBundle({ state: memoryCaState(), clock, log });
    const main = backend(one.root);
    main.answer = () => Promise.reject(new SignetError('AUTHORITY_UNAVAILABLE', 'the CA is away'));
    const failure = await failureOf(
      connectAnchors({ trust, authorities: new Map([['main', main]]), trustedRoots: [], bundleFile: folder.file('b'), log }),
    );
    assert.equal(failure.code, 'AUTHORITY_UNAVAILABLE');
    trust.close();
  });
});
