import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { createDeadlineHeap } from '../../../src/base/deadline-heap.ts';
import { SignetError } from '../../../src/base/errors.ts';
import type { Caller } from '../../../src/identity/caller.ts';
import type { SecretFeed } from '../../../src/sds/secret-source.ts';
import { createClosing } from '../../../src/base/closing.ts';
import { createReadiness } from '../../../src/server/readiness.ts';
import { createRecorder } from '../../../src/server/recorder.ts';
import { createSecretSource } from '../../../src/server/secret-source.ts';
import { startUpkeep } from '../../../src/server/upkeep.ts';
import { parseSpiffeId, parseTrustDomain } from '../../../src/spiffe/id.ts';
import { failureOf } from '../../support/failure.ts';
import { passTime, settle } from '../../support/passing-time.ts';
import { recordingLog } from '../../support/recording-log.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';

describe('what was opened', () => {
  it('is closed once, the last first; what fails to close is told and keeps nothing else open', async () => {
    const log = recordingLog();
    const closing = createClosing(log);
    const closed: string[] = [];
    closing.add('store', () => void closed.push('store'));
    closing.add('broken', () => Promise.reject(new Error('stuck')));
    closing.add('thrown', () => {
      throw new Error('stuck, too');
    });
    closing.add('door', async () => {
      await Promise.resolve();
      closed.push('door');
    });
    await closing.run();
    await closing.run();
    assert.deepEqual(closed, ['door', 'store']);
    assert.deepEqual(
      log.lines.map(({ fields }) => (fields as { part: string }).part),
      ['thrown', 'broken'],
    );
  });
});

describe('the names of secrets', () => {
  const trustDomain = parseTrustDomain('example.org');
  const feed = (key: string, type: SecretFeed['type']): SecretFeed => ({
    key,
    type,
    current: () => 'pending',
    subscribe: () => () => undefined,
  });
  const bundle = feed('bundle', 'validation');
  const callerOf = (path: string): Caller => ({
    issuer: 'cluster',
    subject: path,
    spiffeId: parseSpiffeId(`spiffe://example.org${path}`),
    instance: 'pod:a',
    authenticatedBy: 'token',
    credentialEnds: 0,
    tokenSeenAt: 0,
    provedBy: '',
  });
  const source = createSecretSource({ trustDomain, bundle, identityFeed: (caller) => feed(caller.spiffeId, 'identity') });
  const web = callerOf('/ns/shop/sa/web');

  it('are four for each caller', () => {
    for (const name of ['default', web.spiffeId]) assert.equal(source.lookup(web, name)?.key, web.spiffeId);
    for (const name of ['ROOTCA', 'spiffe://example.org']) assert.equal(source.lookup(web, name), bundle);
  });

  it('lead to nothing else, whatever they are, and never to another identity or type', () => {
    const pieces = fc.constantFrom(
      'default',
      'ROOTCA',
      'spiffe://',
      'example.org',
      '/',
      'ns',
      'shop',
      'sa',
      'web',
      'admin',
      '\0',
      ' ',
      '.',
      '..',
      '%2f',
      '#',
      'A',
    );
    const known = new Set(['default', 'ROOTCA', 'spiffe://example.org', web.spiffeId]);
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: 'binary' }),
          fc.array(pieces, { maxLength: 9 }).map((parts) => parts.join('')),
        ),
        (name) => {
          const found = source.lookup(web, name);
          assert.equal(found !== undefined, known.has(name));
          if (found?.type === 'identity') assert.equal(found.key, web.spiffeId);
        },
      ),
      { numRuns: 2000, examples: [['__proto__'], ['constructor'], [callerOf('/ns/shop/sa/admin').spiffeId], ['spiffe://example.org/']] },
    );
  });
});

describe('what issuance writes', () => {
  it('that the store refuses is refused to whoever asked, and nothing of it is swallowed', async () => {
    const full = new SignetError('INTERNAL', 'the disk is full');
    const recorder = createRecorder({
      appendIssued: () => Promise.reject(full),
      audit: { append: () => Promise.reject(full), list: () => Promise.resolve({ items: [], next: undefined }) },
    });
    const record = {} as Parameters<typeof recorder.issued>[0];
    assert.equal(await failureOf(recorder.issued(record)), full);
    assert.equal(await failureOf(recorder.audit({ at: 0, actor: '', action: '', subject: '', detail: '' })), full);
  });
});

describe('readiness', () => {
  it('is what the issuer and the default CA backend can do; others may be broken', async () => {
    let issuer = { ready: true, detail: '' };
    let statuses = [
      { name: 'main', type: 'x', canSign: true, detail: '' },
      { name: 'spare', type: 'x', canSign: false, detail: 'away' },
    ];
    let fails = false;
    const readiness = createReadiness(
      { readiness: () => issuer },
      () => (fails ? Promise.reject(new Error('no')) : Promise.resolve(statuses)),
      () => ['main'],
    );
    await settle();
    assert.equal(readiness().ready, true);
    statuses = [{ name: 'main', type: 'x', canSign: false, detail: 'its root has ended' }];
    readiness();
    await settle();
    assert.equal(readiness().ready, false);
    assert.match(readiness().detail, /its root has ended/);
    fails = true;
    readiness();
    await settle();
    assert.equal(readiness().ready, false, 'the last that is known');
    issuer = { ready: false, detail: 'the clock is behind' };
    assert.deepEqual(readiness(), issuer);
  });
});

describe('upkeep', () => {
  it('prunes now and then, goes on after a failure, and stops when closed', async () => {
    const clock = simulatedClock();
    const log = recordingLog();
    const heap = createDeadlineHeap(clock, (error) => {
      throw error as Error;
    });
    const pruned: number[] = [];
    let fails = false;
    const upkeep = startUpkeep({
      heap,
      clock,
      log,
      store: {
        prune(endedBefore) {
          if (fails) return Promise.reject(new Error('busy'));
          pruned.push(clock.now() - endedBefore);
          return Promise.resolve(3);
        },
      },
      bindings: { pruneUnused: () => Promise.resolve(1) },
      retainExpiredMs: 5000,
    });
    await passTime({ clock, heap }, 61_000);
    assert.deepEqual(pruned, [5000]);
    assert.deepEqual(log.lines.at(-1)?.fields, { certificates: 3, bindings: 1 });
    fails = true;
    await passTime({ clock, heap }, 3_600_000);
    assert.equal(log.lines.at(-1)?.level, 'warn');
    fails = false;
    await passTime({ clock, heap }, 3_600_000);
    assert.equal(pruned.length, 2);
    upkeep.close();
    await passTime({ clock, heap }, 36_000_000);
    assert.equal(pruned.length, 2);
    heap.close();
  });
});
