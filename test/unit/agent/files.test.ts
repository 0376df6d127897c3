/** What a workload's files look like, how they change, and what runs after it. */
import assert from 'node:assert/strict';
import { X509Certificate, createPrivateKey } from 'node:crypto';
import { chmod, chown, lstat, mkdir, readFile, readdir, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { join } from 'node:path';
import { eventually } from '../../support/eventually.ts';
import { filesId, filesWorld } from '../../support/files-world.ts';
import type { FilesWorld } from '../../support/files-world.ts';

const isRoot = process.geteuid?.() === 0;
const refused = (message: RegExp) => ({ code: 'CONFIG_INVALID', message });
const script = (text: string): { readonly command: readonly string[] } => ({ command: ['/bin/sh', '-c', text] });

async function serialOf(folder: string, name = 'tls.crt'): Promise<string> {
  const leaf = new X509Certificate(await readFile(join(folder, name)));
  assert.ok(leaf.checkPrivateKey(createPrivateKey(await readFile(join(folder, name.replace('crt', 'key'))))));
  return leaf.serialNumber.toLowerCase();
}

async function heard(world: FilesWorld, ...wanted: readonly string[]): Promise<void> {
  await eventually(`${wanted.join(', ')}, not ${world.events.join(', ')}`, () => (world.events.length >= wanted.length ? true : undefined));
  assert.deepEqual(world.events, wanted);
}

const generations = async (folder: string): Promise<string[]> => (await readdir(folder)).filter((name) => name.startsWith('..gen-'));

describe("a workload's files", () => {
  it('are certificate, key and bundle, each under a name that leads to the generation in force', async () => {
    await using world = await filesWorld();
    await world.workload.renew();
    await world.open();
    await heard(world, 'written');
    const { folder, upstream } = world;
    assert.equal(await serialOf(folder), world.workload.feed.current()?.chain.serial);
    assert.ok(new X509Certificate(await readFile(join(folder, 'ca.crt'))).raw.equals(upstream.root));
    for (const name of ['tls.crt', 'tls.key', 'ca.crt']) assert.equal(await readlink(join(folder, name)), `..data/${name}`);
    const generation = join(folder, await readlink(join(folder, '..data')));
    const modes = await Promise.all(
      [folder, generation, ...['tls.crt', 'tls.key', 'ca.crt'].map((name) => join(generation, name))].map(
        async (path) => (await lstat(path)).mode & 0o777,
      ),
    );
    assert.deepEqual(modes, [0o700, 0o700, 0o644, 0o600, 0o644]);
  });

  it('let a group read, where that is configured', async () => {
    await using world = await filesWorld();
    const gid = isRoot ? 12_345 : (process.getegid?.() ?? 0);
    await world.workload.renew();
    await world.open({ group: String(gid) });
    await heard(world, 'written');
    const generation = join(world.folder, await readlink(join(world.folder, '..data')));
    for (const [path, mode] of [
      [world.folder, 0o750],
      [generation, 0o750],
      [join(generation, 'tls.key'), 0o640],
      [join(generation, 'tls.crt'), 0o644],
    ] as const) {
      const stats = await lstat(path);
      assert.deepEqual([stats.mode & 0o777, stats.gid], [mode, gid]);
    }
  });

  it('change together at a renewal, and at a change of trust; the old generation goes', async () => {
    await using world = await filesWorld();
    await world.workload.renew();
    await world.open({ certificate: 'own.crt', key: 'own.key' });
    await heard(world, 'written');
    const first = await serialOf(world.folder, 'own.crt');
    await world.workload.renew();
    await heard(world, 'written', 'written');
    assert.notEqual(await serialOf(world.folder, 'own.crt'), first);
    const other = await filesWorld();
    world.workload.takeTrust(7, [world.upstream.root, other.upstream.root]);
    await other[Symbol.asyncDispose]();
    await heard(world, 'written', 'written', 'written');
    assert.equal((await readFile(join(world.folder, 'ca.crt'), 'utf8')).split('BEGIN CERTIFICATE').length, 3);
    await eventually('one generation', async () => ((await generations(world.folder)).length === 1 ? true : undefined));
  });

  it('stay while the agent is stopped, and what a crash left behind is gone after its start', async () => {
    await using world = await filesWorld();
    await world.workload.renew();
    const files = await world.open({ certificate: 'old.crt', key: 'old.key' });
    await heard(world, 'written');
    await files.close(0);
    const serial = await serialOf(world.folder, 'old.crt');
    await mkdir(join(world.folder, '..gen-halfXX'));
    await writeFile(join(world.folder, '..gen-halfXX', 'tls.key'), 'half of a k');
    await symlink('..gen-halfXX', join(world.folder, '..next-0123'));
    await writeFile(join(world.folder, 'README'), "somebody's");
    // Nothing new to write: only the names have changed, and the old ones lead to what is in force.
    const idle = await filesWorld();
    const again = await idle.open({ folder: world.folder, certificate: 'old.crt', key: 'old.key' });
    assert.equal(await serialOf(world.folder, 'old.crt'), serial);
    assert.deepEqual(
      (await readdir(world.folder)).filter((name) => /halfXX|next/.test(name)),
      [],
    );
    await again.close(0);
    await idle[Symbol.asyncDispose]();
    await world.open();
    await heard(world, 'written', 'written');
    await eventually('no old names', async () => ((await readdir(world.folder)).includes('old.crt') ? undefined : true));
    const names = (await readdir(world.folder)).filter((name) => !name.startsWith('..')).toSorted();
    assert.deepEqual(names, ['README', 'ca.crt', 'tls.crt', 'tls.key']);
  });

  it('stay as they are when they can not be replaced, and are replaced once they can be', async () => {
    await using world = await filesWorld();
    await writeFile(world.temp.file('password'), 'changeit\n');
    await world.workload.renew();
    await world.open({ pkcs12: { passwordFile: world.temp.file('password') } });
    await heard(world, 'written');
    const before = await serialOf(world.folder);
    await rm(world.temp.file('password'));
    await world.workload.renew();
    await heard(world, 'written', 'failed');
    assert.equal(await serialOf(world.folder), before);
    assert.match(world.log.lines.at(-1)?.message ?? '', /can not be written; the old ones stay/);
    await writeFile(world.temp.file('password'), 'short');
    await eventually('a second failure', () => (world.events.filter((event) => event === 'failed').length > 1 ? true : undefined));
    await writeFile(world.temp.file('password'), 'a new one');
    await eventually('the next generation', async () => ((await serialOf(world.folder)) === before ? undefined : true));
    assert.doesNotMatch(JSON.stringify(world.log.lines), /changeit|short|a new one|PRIVATE KEY/);
  });

  it('are refused in a folder that others may enter, that is not ours, or that a link leads to', async () => {
    await using world = await filesWorld();
    const { temp } = world;
    await mkdir(temp.file('open'));
    await chmod(temp.file('open'), 0o755);
    await assert.rejects(world.open({ folder: temp.file('open') }), refused(/files\.folder: others may enter .*chmod 0700/));
    await symlink(temp.file('open'), temp.file('link'));
    await assert.rejects(world.open({ folder: temp.file('link') }), refused(/link is a symbolic link/));
    await assert.rejects(world.open({ folder: temp.file('link/tls') }), refused(/link is a symbolic link/));
    await assert.rejects(world.open({ folder: temp.file('not/there') }), refused(/the folder above it is not there/));
    await mkdir(world.folder, { mode: 0o700 });
    await writeFile(join(world.folder, 'tls.key'), 'precious');
    await assert.rejects(world.open(), refused(/tls\.key is there already and is not ours/));
    await assert.rejects(
      world.open({ key: 'other.key', pkcs12: { passwordFile: temp.file('nowhere') } }),
      refused(/passwordFile: .*can't be read/),
    );
    if (isRoot) {
      await mkdir(temp.file('theirs'), { mode: 0o700 });
      await chown(temp.file('theirs'), 12_345, 12_345);
      await assert.rejects(world.open({ folder: temp.file('theirs') }), refused(/belongs to user 12345/));
    }
  });
});

describe('the command after new files', () => {
  it('sees the new files, who they are for, and nothing of our environment', async () => {
    await using world = await filesWorld();
    process.env.SIGNET_SEALING_KEY = 'not-for-you';
    await world.workload.renew();
    await world.open(
      script(`env | sort > ${world.temp.file('env')}; cat "$SIGNET_FILES_FOLDER/tls.crt" > ${world.temp.file('seen')}; echo done`),
    );
    await heard(world, 'written', 'ok');
    delete process.env.SIGNET_SEALING_KEY;
    const material = world.workload.feed.current();
    assert.equal(await readFile(world.temp.file('seen'), 'utf8'), material?.chain.pems.join(''));
    const names = (await readFile(world.temp.file('env'), 'utf8')).trim().split('\n');
    assert.deepEqual(
      names.filter((line) => !/^(_|PWD|SHLVL|OLDPWD)=/.test(line)),
      [
        'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        `SIGNET_FILES_FOLDER=${world.folder}`,
        `SIGNET_SERIAL=${material?.chain.serial ?? ''}`,
        `SIGNET_SPIFFE_ID=${filesId}`,
      ],
    );
    assert.deepEqual(world.log.lines.at(-1)?.fields, { ...world.log.lines.at(-1)?.fields, result: 'ok', status: '0', output: 'done' });
  });

  it('runs no shell, and its failure is on record and stops no renewal', async () => {
    await using world = await filesWorld();
    await world.workload.renew();
    await world.open({ command: ['/bin/ls', '$HOME; echo hello'] });
    await heard(world, 'written', 'failed');
    const [line] = world.log.lines.filter(({ level }) => level === 'error');
    assert.match(JSON.stringify(line?.fields), /"status":"2","output":".*\$HOME; echo hello/);
    await world.workload.renew();
    await heard(world, 'written', 'failed', 'written', 'failed');
    assert.equal(await serialOf(world.folder), world.workload.feed.current()?.chain.serial);
  });

  it('that is not there fails as any other', async () => {
    await using world = await filesWorld();
    await world.workload.renew();
    await world.open({ command: ['/nowhere/reload'] });
    await heard(world, 'written', 'failed');
    assert.match(JSON.stringify(world.log.lines.at(-1)?.fields), /not started.*ENOENT/);
  });

  it('is ended with all that it started when its time is up, even if it does not listen', async () => {
    await using world = await filesWorld();
    await world.workload.renew();
    const pid = world.temp.file('pid');
    // The child ignores SIGTERM, and holds the output open.
    await world.open({ ...script(`(trap '' TERM; echo $$; exec sleep 300) & echo $! > ${pid}; sleep 300`), commandTimeout: '500ms' });
    await heard(world, 'written', 'timeout');
    const child = Number(await readFile(pid, 'utf8'));
    await eventually('the end of what it started', () => {
      try {
        process.kill(child, 0);
        return undefined;
      } catch {
        return true;
      }
    });
  });

  it('runs one at a time, for the newest files, and what it says is cut short and harmless', async () => {
    await using world = await filesWorld();
    const [busy, order] = [world.temp.file('busy'), world.temp.file('order')];
    await world.workload.renew();
    await world.open(
      script(
        `mkdir ${busy} || exit 9; echo $SIGNET_SERIAL >> ${order}; printf '\\033[31mred'; head -c 100000 /dev/zero | tr '\\0' x; sleep 0.5; rmdir ${busy}`,
      ),
    );
    await eventually('the first run', async () => ((await readFile(order, 'utf8')) === '' ? undefined : true));
    await world.workload.renew();
    await world.workload.renew();
    await world.workload.renew();
    await heard(world, 'written', 'ok', 'written', 'ok');
    await sleep(1500);
    assert.deepEqual(world.events, ['written', 'ok', 'written', 'ok']);
    assert.equal((await readFile(order, 'utf8')).trim().split('\n').at(-1), world.workload.feed.current()?.chain.serial);
    const { output } = world.log.lines.find(({ message }) => message.includes('is done'))?.fields as { output: string };
    assert.equal(output.length, 4096);
    assert.ok(output.startsWith('\u{fffd}[31mred'));
  });

  it('is given a while to end when the agent stops, and no longer', async () => {
    await using world = await filesWorld();
    await world.workload.renew();
    const files = await world.open(script(`sleep 300`));
    await heard(world, 'written');
    await files.close(200);
    assert.deepEqual(world.events, ['written', 'failed']);
    assert.match(JSON.stringify(world.log.lines.at(-1)?.fields), /SIGTERM/);
  });
});
