import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { mkdir, open, rename, rm, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as delay, setImmediate } from 'node:timers/promises';
import { openTrustBundle } from '../../../src/trust/trust-bundle.ts';
import type { TrustBundle } from '../../../src/trust/trust-bundle.ts';
import { watchTrustedRoots } from '../../../src/trust/trusted-roots.ts';
import type { TrustedRoots } from '../../../src/trust/trusted-roots.ts';
import { generateKeyPair, privateKeyPem } from '../../../src/x509/keys.ts';
import { pemEncode } from '../../../src/x509/pem.ts';
import { eventually } from '../../support/eventually.ts';
import { failureOf } from '../../support/failure.ts';
import { fakeAuthority } from '../../support/fake-authority.ts';
import { runProgram } from '../../support/process.ts';
import { recordingLog } from '../../support/recording-log.ts';
import { replaceFile, tempFolder } from '../../support/temp.ts';
import type { TempFolder } from '../../support/temp.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';

const clock = simulatedClock();
const roots = (await Promise.all(['a', 'b', 'c'].map((name) => fakeAuthority({ clock, name })))).map((authority) => authority.root);
const [a, b, c] = roots as [Buffer, Buffer, Buffer];
const pem = (...certificates: readonly Buffer[]): string => certificates.map((der) => pemEncode('CERTIFICATE', der)).join('');
const slowPoll = 3_600_000;

function fakeState(): Parameters<typeof openTrustBundle>[0]['state'] {
  let entry: { epoch: number; value: Buffer } | undefined;
  return {
    read: () => Promise.resolve(entry),
    compareAndSet(_name, expected, value) {
      if ((entry?.epoch ?? 0) !== expected) return Promise.resolve(false);
      entry = { epoch: expected + 1, value };
      return Promise.resolve(true);
    },
  };
}

async function trustOf(log = recordingLog(), state = fakeState()): Promise<TrustBundle> {
  const trust = await openTrustBundle({ state, clock, log });
  await trust.setSource('ca:own', [a]);
  return trust;
}

const has = (trust: TrustBundle, root: Buffer): boolean => trust.current().anchors.certificates.some((der) => der.equals(root));
const becomes = (what: string, trust: TrustBundle, present: readonly Buffer[], gone: readonly Buffer[]): Promise<boolean> =>
  eventually(
    what,
    () => (present.every((root) => has(trust, root)) && gone.every((root) => !has(trust, root)) ? true : undefined),
    10_000,
    20,
  );

interface Watched extends AsyncDisposable {
  readonly folder: TempFolder;
  readonly file: string;
  readonly trust: TrustBundle;
  readonly watcher: TrustedRoots;
  readonly log: ReturnType<typeof recordingLog>;
  /** What was complained of. */
  errors(): readonly unknown[];
}

/** A file that holds `b`, watched. */
async function watched(): Promise<Watched> {
  const folder = await tempFolder();
  const file = folder.file('roots.pem');
  await writeFile(file, pem(b));
  const log = recordingLog();
  const trust = await trustOf(log);
  const watcher = await watchTrustedRoots({ files: [file], trust, log, pollMs: slowPoll });
  return {
    folder,
    file,
    trust,
    watcher,
    log,
    errors: () => log.lines.filter(({ level }) => level === 'error'),
    async [Symbol.asyncDispose]() {
      watcher.close();
      await folder[Symbol.asyncDispose]();
    },
  };
}

describe('trusted roots from files', () => {
  it('are read at the start, and again when the file is replaced', async () => {
    await using world = await watched();
    const { file, trust } = world;
    assert.ok(has(trust, a) && has(trust, b));
    await replaceFile(file, pem(c));
    await becomes('replaced', trust, [a, c], [b]);
    await writeFile(file, pem(c, b));
    await becomes('rewritten in place', trust, [a, b, c], []);
  });

  it('follow a swap of symbolic links, as Kubernetes updates a mounted ConfigMap', async () => {
    await using folder = await tempFolder();
    for (const [name, root] of [
      ['v1', b],
      ['v2', c],
    ] as const) {
      await mkdir(join(folder.path, name));
      await writeFile(join(folder.path, name, 'roots.pem'), pem(root));
    }
    await symlink('v1', folder.file('..data'));
    await symlink('..data/roots.pem', folder.file('roots.pem'));
    const trust = await trustOf();
    const watcher = await watchTrustedRoots({ files: [folder.file('roots.pem')], trust, log: recordingLog(), pollMs: slowPoll });
    try {
      await symlink('v2', folder.file('..data_tmp'));
      await rename(folder.file('..data_tmp'), folder.file('..data'));
      await becomes('swapped', trust, [a, c], [b]);
    } finally {
      watcher.close();
    }
  });

  for (const { before, replaced } of [
    { before: 'one that was taken up', replaced: undefined },
    { before: 'one that was refused', replaced: 'garbage' },
  ])
    it(`half of a file that is being rewritten in place is never taken up, though it is a valid one: over ${before}`, async () => {
      await using world = await watched();
      const { file, trust, watcher, log } = world;
      if (replaced !== undefined) {
        await replaceFile(file, replaced);
        // Until nobody looks any more: a look that waits for two equal reads would hide one that doesn't.
        await eventually('refused', () => world.errors().length > 0 || undefined);
        await delay(50);
        await watcher.check();
        assert.equal(world.errors().length, 1);
        log.lines.length = 0;
      }
      const published: string[] = [];
      trust.subscribe(() => published.push([a, b, c].map((root) => (has(trust, root) ? 'x' : '-')).join('')));
      const writer = await open(file, 'w');
      await writer.write(pem(c));
      // Its times are apart then, as after a rename.
      await writer.utimes(0, 0);
      await delay(30);
      await writer.write(pem(b));
      await writer.close();
      await becomes('rewritten', trust, [a, b, c], []);
      await watcher.check();
      assert.deepEqual(published, ['xxx']);
      assert.deepEqual(world.errors(), []);
    });

  it('a file that is moved into its place is taken up once, also in a folder that is never at rest', async () => {
    await using world = await watched();
    const { folder, file, trust, watcher } = world;
    const before = trust.current().generation;
    const next = folder.file('next.pem');
    await writeFile(next, pem(c));
    await utimes(next, 0, 0);
    await rename(next, file);
    for (let events = 0; !has(trust, c); events++) {
      assert.ok(events < 5000, 'it waits for the folder to come to rest');
      writeFileSync(folder.file('other'), 'something');
      await setImmediate();
    }
    await watcher.check();
    assert.ok(!has(trust, b));
    assert.equal(trust.current().generation, before + 1);
    assert.deepEqual(world.errors(), []);
  });

  it('are looked at now and then where nothing is heard of a change', async () => {
    await using folder = await tempFolder();
    await mkdir(folder.file('elsewhere'));
    const target = join(folder.file('elsewhere'), 'roots.pem');
    await writeFile(target, pem(b));
    // Only the folder of the link is watched; the file behind it changes unheard.
    await mkdir(folder.file('here'));
    const file = join(folder.file('here'), 'roots.pem');
    await symlink(target, file);
    const trust = await trustOf();
    const watcher = await watchTrustedRoots({ files: [file], trust, log: recordingLog(), pollMs: 50 });
    try {
      await replaceFile(target, pem(c));
      await becomes('polled', trust, [a, c], [b]);
    } finally {
      watcher.close();
    }
  });

  it('a bad file is refused with one clear line, and its last good roots stay trusted', async () => {
    await using world = await watched();
    const { file, trust, watcher, log } = world;
    const secret = privateKeyPem(generateKeyPair().privateKey);
    const bad: [string, () => Promise<unknown>][] = [
      ['garbage', () => replaceFile(file, 'garbage')],
      ['cut short', () => replaceFile(file, pem(b).slice(0, 300))],
      ['empty', () => truncate(file, 0)],
      ['a private key in it', () => replaceFile(file, pem(b) + secret)],
      ['too large', () => replaceFile(file, 'x'.repeat(5_000_000))],
      ['gone', () => rm(file)],
      ['a FIFO that nobody writes to', () => runProgram('mkfifo', [file])],
    ];
    for (const [what, spoil] of bad) {
      log.lines.length = 0;
      await spoil();
      await watcher.check();
      await watcher.check();
      const complaints = world.errors();
      assert.equal(complaints.length, 1, what);
      assert.ok(!JSON.stringify(complaints).includes(secret.slice(40, 80)), what);
      assert.ok(has(trust, b), what);
    }
    await rm(file);
    await writeFile(file, pem(c));
    await becomes('good again', trust, [a, c], [b]);
  });

  it('a file that is bad at the start is an error, unless it was good before: then its last good stays', async () => {
    await using folder = await tempFolder();
    const file = folder.file('roots.pem');
    await writeFile(file, 'garbage');
    const state = fakeState();
    const trust = await trustOf(recordingLog(), state);
    const error = await failureOf(watchTrustedRoots({ files: [file], trust, log: recordingLog() }));
    assert.equal(error.code, 'CONFIG_INVALID');
    assert.ok(error.message.includes(file));
    await writeFile(file, pem(b));
    (await watchTrustedRoots({ files: [file], trust, log: recordingLog() })).close();
    await writeFile(file, 'garbage');
    const log = recordingLog();
    const restarted = await trustOf(log, state);
    const watcher = await watchTrustedRoots({ files: [file], trust: restarted, log });
    watcher.close();
    assert.ok(has(restarted, b));
    assert.equal(log.lines.filter((line) => line.level === 'error').length, 1);
  });
});
