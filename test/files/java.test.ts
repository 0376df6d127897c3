/** A JDK's own TLS and keytool by the agent's PKCS#12 files, as the page that people read has them. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { javaPrograms } from '../support/debian-programs.ts';
import { eventually } from '../support/eventually.ts';
import { filesHost, filesIdOf, filesSetting, snippets } from '../support/files-host.ts';
import { requestOnce, tlsIdentity } from '../support/mtls-request.ts';
import { foreignCa, foreignLeaf } from '../support/openssl.ts';
import { endChild, keepTrack, runProgram } from '../support/process.ts';

const program = fileURLToPath(new URL('./java/Server.java', import.meta.url));

describe('Java with files of the agent', () => {
  it('serves mTLS by them, and keytool lists the key', async () => {
    const { java } = await javaPrograms();
    await using host = await filesHost('10m');
    const passwordFile = join(host.folder, 'orders-tls-password');
    await writeFile(passwordFile, 'not much of a secret\n', { mode: 0o600 });
    const here = (text: string): string => text.replaceAll('/run/signet', host.folder).replaceAll('/etc/signet', host.folder);
    const told = await filesSetting('Java', here);
    await host.agent({ orders: told });

    const [list = ''] = await snippets('Java', 'sh');
    const listed = await runProgram('/bin/sh', ['-c', here(list)]);
    assert.equal(listed.code, 0, listed.stdout + listed.stderr);
    assert.match(listed.stdout, /workload, .*PrivateKeyEntry/);

    const server = spawn(java, [program, told.folder, passwordFile], { stdio: ['ignore', 'pipe', 'pipe'] });
    keepTrack(server);
    let said = '';
    for (const stream of [server.stdout, server.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (said += text));
    try {
      const port = Number(await eventually('its port', () => /^(\d+)$/m.exec(said)?.[1], 60_000));
      const target = { port, peer: filesIdOf('orders'), http: 'h1' } as const;
      assert.match(await requestOnce(target, host.client, 20_000), /^[0-9a-f]+$/);
      const stranger = tlsIdentity(await foreignLeaf(await foreignCa(), { uri: filesIdOf('web') }), host.anchors);
      await assert.rejects(requestOnce(target, stranger, 20_000));
      await eventually('its refusal', () => (said.includes('unable to find valid certification path') ? true : undefined));
      await assert.rejects(requestOnce(target, tlsIdentity(undefined, host.anchors), 20_000));
      await eventually('its refusal', () => (/certificate_required|Empty client certificate chain/i.test(said) ? true : undefined));
    } finally {
      await endChild(server);
    }
  });
});
