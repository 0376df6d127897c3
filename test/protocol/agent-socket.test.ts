/** A workload's socket: whoever can open it is the workload, so its folder is the door. */
import assert from 'node:assert/strict';
import { chmod, chown, lstat, mkdir, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { describe, it } from 'node:test';
import { createHealth } from '../../src/api/health.ts';
import type { WorkloadConfig } from '../../src/agent/config/schema.ts';
import { openWorkloadSocket } from '../../src/agent/workload-socket.ts';
import type { UnixListener } from '../../src/api/unix-listener.ts';
import { runProgram } from '../support/process.ts';
import { silentLog } from '../support/silent-log.ts';
import { tempFolder } from '../support/temp.ts';

const health = createHealth({ log: silentLog, timeoutMs: 1000 }, []);

async function open(socket: string, more: Partial<WorkloadConfig> = {}): Promise<UnixListener> {
  const workload: WorkloadConfig = { name: 'web', tokenFile: '/nowhere', socket, mode: '0700', keyType: 'ec-p256', ...more };
  return openWorkloadSocket({ workload, where: 'workloads[0]', services: [health] });
}

const refused = (message: RegExp) => ({ code: 'CONFIG_INVALID', message });
const isRoot = process.geteuid?.() === 0;

describe("a workload's socket", () => {
  it('is in a folder of its own that nobody else may enter, and is gone after the agent', async () => {
    await using temp = await tempFolder();
    const path = temp.file('web/agent.sock');
    const listener = await open(path);
    assert.equal((await lstat(temp.file('web'))).mode & 0o777, 0o700);
    assert.equal((await lstat(path)).mode & 0o777, 0o600);
    await listener.close(1000);
    await assert.rejects(lstat(path), { code: 'ENOENT' });
  });

  it('lets a group in where that is configured', async () => {
    await using temp = await tempFolder();
    const group = isRoot ? 12_345 : (process.getegid?.() ?? 0);
    const path = temp.file('web/agent.sock');
    const listener = await open(path, { mode: '0750', group: String(group) });
    for (const [entry, mode] of [
      [temp.file('web'), 0o750],
      [path, 0o660],
    ] as const) {
      const stats = await lstat(entry);
      assert.equal(stats.mode & 0o777, mode);
      assert.equal(stats.gid, group);
    }
    await listener.close(1000);
    await assert.rejects(open(path, { mode: '0750', group: 'no-such-group-here' }), refused(/no group no-such-group-here/));
  });

  it('can not be opened by another user of the machine', { skip: isRoot ? false : 'only root can be somebody else' }, async () => {
    await using temp = await tempFolder();
    // Whatever is above is open to all: the workload's own folder is what keeps them out.
    await chmod(temp.path, 0o755);
    const path = temp.file('web/agent.sock');
    const listener = await open(path);
    const connect = (uid: number) =>
      runProgram(process.execPath, [
        '-e',
        `process.setgid(${String(uid)}); process.setuid(${String(uid)});
         require('net').connect(${JSON.stringify(path)}).once('connect', () => { console.log('connected'); process.exit(); })
           .once('error', (error) => { console.log(error.code); process.exit(); })`,
      ]);
    assert.equal((await connect(65_534)).stdout, 'EACCES\n');
    assert.equal((await connect(0)).stdout, 'connected\n');
    await listener.close(1000);
  });

  it('is refused when any part of its path is a symbolic link', async () => {
    await using temp = await tempFolder();
    await mkdir(temp.file('elsewhere/web'), { recursive: true, mode: 0o700 });
    await symlink(temp.file('elsewhere'), temp.file('link'));
    await symlink(temp.file('elsewhere/web'), temp.file('web'));
    await assert.rejects(open(temp.file('link/web/agent.sock')), refused(/link is a symbolic link/));
    await assert.rejects(open(temp.file('web/agent.sock')), refused(/web is a symbolic link/));
    const other = createServer().listen(temp.file('elsewhere/web/other.sock'));
    await new Promise((resolve) => other.once('listening', resolve));
    await symlink(temp.file('elsewhere/web/other.sock'), temp.file('elsewhere/web/agent.sock'));
    await assert.rejects(open(temp.file('elsewhere/web/agent.sock')), refused(/agent\.sock is a symbolic link/));
    await new Promise((resolve) => other.close(resolve));
  });

  it("is refused in a folder that is another's, or open to others", async () => {
    await using temp = await tempFolder();
    await mkdir(temp.file('open'));
    await chmod(temp.file('open'), 0o755);
    await assert.rejects(open(temp.file('open/agent.sock')), refused(/whoever may is the workload web: chmod 0700/));
    await assert.rejects(open(temp.file('open/agent.sock'), { mode: '0750', group: '0' }), refused(/chmod 0750/));
    if (isRoot) {
      await mkdir(temp.file('theirs'), { mode: 0o700 });
      await chown(temp.file('theirs'), 12_345, 12_345);
      await assert.rejects(open(temp.file('theirs/agent.sock')), refused(/belongs to user 12345/));
    }
  });

  it('takes the place of a socket that nobody answers on, and of nothing else', async () => {
    await using temp = await tempFolder();
    const path = temp.file('web/agent.sock');
    const first = await open(path);
    await assert.rejects(open(path), refused(/another server answers/));
    await first.close(1000);
    // A process that binds the socket and dies without cleaning up.
    await runProgram(process.execPath, [
      '-e',
      `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`,
    ]);
    assert.ok((await lstat(path)).isSocket());
    await (await open(path)).close(1000);
    await writeFile(path, 'precious');
    await assert.rejects(open(path), refused(/no socket/));
  });

  it('with a path longer than the system takes is refused in words', async () => {
    await using temp = await tempFolder();
    await assert.rejects(open(temp.file(`web/${'x'.repeat(100)}`)), refused(/at most 107 bytes/));
  });
});
