import assert from 'node:assert/strict';
import { chmod, chown, lstat, mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { describe, it } from 'node:test';
import { createHealth } from '../../src/api/health.ts';
import { openAdminListener } from '../../src/server/admin-listener.ts';
import { grpcCaller } from '../support/grpc-caller.ts';
import { runProgram } from '../support/process.ts';
import { silentLog } from '../support/silent-log.ts';
import { tempFolder } from '../support/temp.ts';

const { register } = createHealth({ log: silentLog, timeoutMs: 1000 }, []);

describe('the admin socket', () => {
  it('serves its owner alone, and is gone after the server', async () => {
    await using folder = await tempFolder();
    const path = folder.file('admin.sock');
    const listener = await openAdminListener({ path, register });
    assert.equal((await lstat(path)).mode & 0o777, 0o600);
    const client = grpcCaller({ address: `unix:${path}`, file: 'grpc/health/v1/health.proto', service: 'grpc.health.v1.Health' });
    assert.deepEqual(await client.call('Check', {}), { status: 'NOT_SERVING' });
    client.close();
    await listener.close(1000);
    await assert.rejects(lstat(path), { code: 'ENOENT' });
  });

  it('left over from a server that was killed is replaced', async () => {
    await using folder = await tempFolder();
    const path = folder.file('admin.sock');
    // A process that binds the socket and dies without cleaning up.
    const ran = await runProgram(process.execPath, [
      '-e',
      `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`,
    ]);
    assert.notEqual(ran.code, 0);
    assert.ok((await lstat(path)).isSocket());
    const listener = await openAdminListener({ path, register });
    await listener.close(1000);
  });

  it('of another server that lives is left alone, and so is a file that is no socket', async () => {
    await using folder = await tempFolder();
    const path = folder.file('admin.sock');
    const other = createServer((socket) => socket.end()).listen(path);
    await new Promise((resolve) => other.once('listening', resolve));
    await assert.rejects(openAdminListener({ path, register }), { code: 'CONFIG_INVALID', message: /another server answers/ });
    await new Promise((resolve) => other.close(resolve));
    await writeFile(path, 'precious');
    await assert.rejects(openAdminListener({ path, register }), { code: 'CONFIG_INVALID', message: /is there already and is no socket/ });
  });

  it('is not opened in a folder that others may enter, or that is not there', async () => {
    await using folder = await tempFolder();
    const open = folder.file('open');
    await mkdir(open);
    await chmod(open, 0o755);
    await assert.rejects(openAdminListener({ path: `${open}/admin.sock`, register }), { code: 'CONFIG_INVALID', message: /chmod 0700/ });
    await assert.rejects(openAdminListener({ path: folder.file('none/admin.sock'), register }), { code: 'CONFIG_INVALID' });
  });

  it("is not opened in another user's folder, who would be an operator by it", async () => {
    await using folder = await tempFolder();
    const theirs = folder.file('theirs');
    await mkdir(theirs, { mode: 0o700 });
    const own = process.geteuid?.() ?? 0;
    // Only root can give a folder away; anybody else has one of root's at hand, whose owner is judged first.
    if (own === 0) await chown(theirs, 12_345, 12_345);
    const path = own === 0 ? `${theirs}/admin.sock` : '/admin.sock';
    await assert.rejects(openAdminListener({ path, register }), { code: 'CONFIG_INVALID', message: /belongs to user/ });
  });

  it('with a path longer than the system takes is refused in words', async () => {
    await assert.rejects(openAdminListener({ path: `/tmp/${'x'.repeat(110)}/admin.sock`, register }), {
      code: 'CONFIG_INVALID',
      message: /at most 107 bytes/,
    });
  });
});
