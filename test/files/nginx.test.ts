/** A real nginx by the page that people read, through rotations of its certificate. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chown, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { connect } from 'node:tls';
import { nginxProgram, plainUser } from '../support/debian-programs.ts';
import { eventually } from '../support/eventually.ts';
import { filesHost, filesIdOf, filesSetting, snippets } from '../support/files-host.ts';
import type { FilesHost } from '../support/files-host.ts';
import { describeLoad, startLoad } from '../support/load.ts';
import { tlsIdentity } from '../support/mtls-request.ts';
import { foreignCa, foreignLeaf } from '../support/openssl.ts';
import { freePort } from '../support/ports.ts';
import { endChild, keepTrack } from '../support/process.ts';

const program = await nginxProgram();
const user = await plainUser('www-data');
const rotations = 3;

interface Nginx extends AsyncDisposable {
  readonly port: number;
  log(): Promise<string>;
}

/** In the foreground, as a plain user, with the page's server block. */
async function startNginx(base: string, port: number, tls: string): Promise<Nginx> {
  const [block = ''] = await snippets('nginx', 'nginx');
  const server = block.replaceAll('/run/signet/nginx-tls', tls).replace('127.0.0.1:9443', `127.0.0.1:${port}`);
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${base}/${name};`).join('\n');
  await writeFile(
    join(base, 'nginx.conf'),
    `daemon off;\npid ${base}/nginx.pid;\nerror_log ${base}/error.log;\nevents {}\nhttp {\naccess_log off;\n${temporary}\n${server}}\n`,
  );
  const child = spawn(program, argsOf(base), { stdio: 'ignore', ...(user ? { uid: user.uid, gid: user.gid } : {}) });
  keepTrack(child);
  const log = (): Promise<string> => readFile(join(base, 'error.log'), 'utf8').catch(() => '');
  await eventually('nginx', async () => ((await readFile(join(base, 'nginx.pid'), 'utf8')) === `${child.pid ?? 0}\n` ? true : undefined));
  return {
    port,
    log,
    async [Symbol.asyncDispose]() {
      await endChild(child, 'SIGQUIT');
    },
  };
}

const argsOf = (base: string): string[] => ['-p', base, '-e', 'stderr', '-c', join(base, 'nginx.conf')];

async function prepare(host: FilesHost, name: string) {
  const base = join(host.folder, name);
  await mkdir(base);
  if (user) await chown(base, user.uid, user.gid);
  const told = await filesSetting('nginx', (text) => text.replaceAll('/run/signet', host.folder));
  const [, ...args] = told.command ?? [];
  return { base, told, command: [program, ...argsOf(base), ...args] };
}

describe('nginx with files of the agent', () => {
  it(`serves mTLS through ${rotations} rotations, with 0 failed`, async (t) => {
    await using host = await filesHost('12s');
    const { base, told, command } = await prepare(host, 'nginx');
    await host.agent({ nginx: { ...told, command, ...(user ? { group: user.name } : {}) } });
    await using nginx = await startNginx(base, await freePort(), told.folder);
    const target = { port: nginx.port, peer: filesIdOf('nginx'), http: 'h1' } as const;
    const load = startLoad(target, () => host.client);
    await load.sawSerials(rotations + 1);
    const report = await load.stop();
    t.diagnostic(describeLoad(report));
    assert.equal(report.failed, 0, `${describeLoad(report)}\n${await nginx.log()}\n${host.agentOutput().slice(-2000)}`);
    const metrics = await host.metrics();
    assert.match(metrics, /signet_agent_files_written_total\{workload="nginx"\} [4-9]/);
    // The first may have come before nginx.
    assert.match(metrics, /signet_agent_commands_total\{workload="nginx",result="ok"\} [3-9]/);
    assert.match(await ask(nginx.port, host.anchors), / 400 .*No required SSL certificate was sent/s);
    const stranger = await foreignLeaf(await foreignCa(), { uri: filesIdOf('nginx') });
    assert.match(await ask(nginx.port, host.anchors, stranger), / 400 .*The SSL certificate error/s);
  });

  it('that is not told keeps its first certificate, and the same load sees it end', async (t) => {
    await using host = await filesHost('12s');
    const { base, told } = await prepare(host, 'nginx');
    await host.agent({ nginx: { folder: told.folder, ...(user ? { group: user.name } : {}) } });
    await using nginx = await startNginx(base, await freePort(), told.folder);
    const load = startLoad({ port: nginx.port, peer: filesIdOf('nginx'), http: 'h1' }, () => host.client);
    await eventually('failures', () => (load.failed > 0 ? true : undefined));
    const report = await load.stop();
    t.diagnostic(describeLoad(report));
    assert.equal(report.serials.length, 1);
    assert.ok(
      [...report.errors.keys()].every((text) => text.includes('CERT_HAS_EXPIRED')),
      describeLoad(report),
    );
  });
});

/** The whole answer to a request on a connection that shows this certificate, or none. */
async function ask(port: number, anchors: string, own?: { readonly certificate: string; readonly key: string }): Promise<string> {
  const { context } = tlsIdentity(own, anchors);
  const socket = connect({ host: '127.0.0.1', port, secureContext: context, checkServerIdentity: () => undefined });
  socket.setTimeout(10_000, () => socket.destroy(new Error('no answer')));
  socket.write('GET / HTTP/1.0\r\n\r\n');
  let text = '';
  for await (const chunk of socket as AsyncIterable<Buffer>) text += chunk.toString();
  return text;
}
