import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { eventually } from '../support/eventually.ts';
import { endChild, keepTrack, runProgram } from '../support/process.ts';
import type { Ran } from '../support/process.ts';
import { tempFolder } from '../support/temp.ts';
import type { TempFolder } from '../support/temp.ts';
import { startWorkloadApi, testTrustDomain } from '../support/workload-world.ts';
import type { WorkloadWorld } from '../support/workload-world.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const npmMs = 600_000;

/** The environment of a person's shell: without what `npm run` and this checkout's node_modules put into ours. */
function shell(): NodeJS.ProcessEnv {
  const path = (process.env.PATH ?? '').split(delimiter).filter((folder) => !folder.includes('node_modules'));
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith('npm_') && !name.startsWith('SIGNET_'));
  return { ...Object.fromEntries(kept), PATH: path.join(delimiter) };
}

async function npm(args: readonly string[], cwd: string, env = shell()): Promise<Ran> {
  const child = spawn('npm', args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'], timeout: npmMs });
  keepTrack(child);
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (stdout += chunk));
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  assert.equal(code, 0, `npm ${args.join(' ')}: ${stdout.slice(-2000)}${stderr.slice(-2000)}`);
  return { code, stdout, stderr };
}

/** The package in an empty folder beside a Node of that major version: where its bin is, and the Node. */
async function installed(
  folder: string,
  tarball: string,
  major: number,
): Promise<{ readonly bin: string; readonly node: string; readonly package: string }> {
  await mkdir(folder);
  // npm runs install scripts of those named here alone; node's puts the binary in place.
  await writeFile(join(folder, 'package.json'), JSON.stringify({ private: true, allowScripts: { node: true } }));
  await npm(['install', '--no-audit', '--no-fund', tarball, `node@${String(major)}`], folder);
  const bins = join(folder, 'node_modules', '.bin');
  return { bin: join(bins, 'signet'), node: join(bins, 'node'), package: join(folder, 'node_modules', 'signet-sds') };
}

/** By its name, as a shell does: the first line of the file looks for `node` on the path. */
function run(where: { readonly bin: string }, args: readonly string[]): Promise<Ran> {
  const env = shell();
  return runProgram(where.bin, args, { env: { ...env, PATH: `${dirname(where.bin)}${delimiter}${env.PATH ?? ''}` } });
}

describe('the published package', () => {
  let folder: TempFolder;
  let tarball: string;

  before(async () => {
    folder = await tempFolder();
    // prepack builds with this checkout's Node 24.
    await npm(['pack', '--pack-destination', folder.path], root);
    const name = (await readdir(folder.path)).find((file) => file.endsWith('.tgz'));
    assert.ok(name);
    tarball = folder.file(name);
  });
  after(() => folder[Symbol.asyncDispose]());

  it('holds what runs and what is read, and neither sources nor tests', async () => {
    const { stdout } = await runProgram('tar', ['-tzf', tarball]);
    const files = stdout.trim().split('\n');
    for (const needed of [
      'bin/signet.js',
      'dist/main.js',
      'dist/workload/index.d.ts',
      'proto/signet/v1/admin_service.proto',
      'package.json',
      'README.md',
      'LICENSE',
    ]) {
      assert.ok(files.includes(`package/${needed}`), needed);
    }
    assert.deepEqual(
      files.filter((file) => /^package\/(src|test|scripts|node_modules|\.)/.test(file)),
      [],
    );
  });

  it('runs on Node 24: help, a server that serves, a token, and an end with 0', async () => {
    const here = await installed(folder.file('on24'), tarball, 24);
    const help = await run(here, ['--help']);
    assert.equal(help.code, 0, help.stderr);
    assert.match(help.stdout, /Usage: signet/);

    const data = folder.file('data');
    const server = spawn(
      here.node,
      [join(here.package, 'dist', 'main.js'), 'server', '--dev', '--data', data, '--grpc', '127.0.0.1:0', '--http', '127.0.0.1:0'],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: shell(),
      },
    );
    keepTrack(server);
    let [output, log] = ['', ''];
    server.stdout.setEncoding('utf8').on('data', (chunk: string) => (output += chunk));
    server.stderr.setEncoding('utf8').on('data', (chunk: string) => (log += chunk));
    const [ready, pid] = await eventually(
      'the ready line',
      () => /^ready pid=(\d+) grpc=\S+ http=\S+ admin=\S+\n$/.exec(output) ?? undefined,
      60_000,
    );
    assert.ok(ready);
    assert.equal(Number(pid), server.pid);
    // Nothing but JSON on stderr: no warning of Node's.
    for (const line of log.trim().split('\n')) assert.doesNotThrow(() => JSON.parse(line) as unknown, line);

    const token = await run(here, ['token', '--data', data, '--namespace', 'shop', '--service-account', 'web']);
    assert.equal(token.code, 0, token.stderr);
    assert.match(token.stdout, /^[\w-]+\.[\w-]+\.[\w-]+$/);
    const status = await run(here, ['status', '--data', data, '--json']);
    assert.equal(status.code, 0, status.stderr);

    await endChild(server, 'SIGTERM', 30_000);
    assert.equal(server.exitCode, 0);
    // And exactly one line was said on stdout.
    assert.equal(output, ready);
  });

  it('gives two Node services their identities, by the example in the documentation, through a rotation', async () => {
    const here = await installed(folder.file('services'), tarball, 24);
    const page = await readFile(join(root, 'docs/how-to/node-service.md'), 'utf8');
    const examples = [...page.matchAll(/^```(?:js|ts)\n\/\/ (\S+)\n(.*?)^```$/gms)].map(
      ([, name = '', code = '']) => [name, code] as const,
    );
    assert.deepEqual(
      examples.map(([name]) => name),
      ['server.mjs', 'client.mjs', 'grpc.mts'],
    );
    for (const [name, code] of examples) await writeFile(join(folder.file('services'), name), code);

    const trustDomain = await testTrustDomain('example.org');
    await using db = await startWorkloadApi({ trustDomain, identities: { '/ns/shop/sa/db': '' } });
    await using web = await startWorkloadApi({ trustDomain, identities: { '/ns/shop/sa/web': '' } });
    await using other = await startWorkloadApi({ trustDomain, identities: { '/ns/shop/sa/other': '' } });
    const server = spawn(here.node, ['server.mjs'], {
      cwd: folder.file('services'),
      env: { ...shell(), SPIFFE_ENDPOINT_SOCKET: db.endpoint, PORT: '0' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    keepTrack(server);
    let [output, log] = ['', ''];
    server.stdout.setEncoding('utf8').on('data', (chunk: string) => (output += chunk));
    server.stderr.setEncoding('utf8').on('data', (chunk: string) => (log += chunk));
    const [, port = ''] = await eventually('its port', () => /^port (\d+)$/m.exec(output) ?? undefined);
    const client = (world: WorkloadWorld): Promise<Ran> =>
      runProgram(here.node, [join(folder.file('services'), 'client.mjs')], {
        env: { ...shell(), SPIFFE_ENDPOINT_SOCKET: world.endpoint, PORT: port },
      });
    for (let rotation = 0; rotation < 2; rotation++) {
      const { code, stdout, stderr } = await client(web);
      assert.deepEqual([code, stdout, stderr], [0, 'hello spiffe://example.org/ns/shop/sa/web\n', '']);
      const before = log;
      await db.rotate();
      await eventually('its new certificate', () => (/new certificate: [0-9a-f]+\n$/.test(log) && log !== before ? true : undefined));
    }
    const refused = await client(other);
    assert.deepEqual([refused.code, refused.stdout], [1, '']);
    await eventually('why', () => (log.includes('not one that is wanted here: spiffe://example.org/ns/shop/sa/other') ? true : undefined));
    await endChild(server, 'SIGTERM', 30_000);
    assert.equal(server.exitCode, 0);
  });

  it('has types for its library, as a strict compiler reads them', async () => {
    const services = folder.file('services');
    await writeFile(
      join(services, 'tsconfig.json'),
      JSON.stringify({
        compilerOptions: {
          strict: true,
          noEmit: true,
          target: 'es2024',
          module: 'nodenext',
          types: ['node'],
          typeRoots: [join(root, 'node_modules/@types')],
        },
        files: ['grpc.mts'],
      }),
    );
    await writeFile(join(services, 'wrong.mts'), "import { X509Source } from 'signet-sds/workload';\nnew X509Source('/path');\n");
    const tsc = (...args: string[]): Promise<Ran> => runProgram(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), ...args]);
    const { code, stdout } = await tsc('-p', services);
    assert.equal(code, 0, stdout);
    // The types are there: without them everything would be any.
    const wrong = await tsc('--noEmit', '--strict', '--module', 'nodenext', '--ignoreConfig', join(services, 'wrong.mts'));
    assert.match(wrong.stdout, /private/);
  });

  it('says in one line what it needs on Node 20, and exits with 2; its library works there', async () => {
    const here = await installed(folder.file('on20'), tarball, 20);
    const { code, stdout, stderr } = await run(here, ['--help']);
    assert.equal(code, 2);
    assert.equal(stdout, '');
    assert.match(stderr, /^signet needs Node\.js 24 or newer; this is v20\.[^\n]+\n$/);

    // The library needs less than the program.
    await using world = await startWorkloadApi();
    const file = join(folder.file('on20'), 'who.mjs');
    await writeFile(
      file,
      `import { X509Source } from 'signet-sds/workload';
const source = await X509Source.open();
console.log(process.version, source.svid.spiffeId);
source.close();
`,
    );
    const who = await runProgram(here.node, [file], { env: { ...shell(), SPIFFE_ENDPOINT_SOCKET: world.endpoint } });
    assert.match(who.stdout, /^v20\.\S+ spiffe:\/\/test\.example\/ns\/shop\/sa\/web\n$/, who.stderr);
  });
});

describe('a checkout', () => {
  it('runs its sources on Node 24 by `npx signet`, whatever Node the shell has', async () => {
    const folder = await tempFolder();
    const server = spawn(
      'npx',
      ['signet', 'server', '--dev', '--data', folder.file('data'), '--grpc', '127.0.0.1:0', '--http', '127.0.0.1:0'],
      {
        cwd: root,
        env: shell(),
        stdio: ['ignore', 'pipe', 'ignore'],
      },
    );
    keepTrack(server);
    let output = '';
    server.stdout.setEncoding('utf8').on('data', (chunk: string) => (output += chunk));
    const pid = Number((await eventually('the ready line', () => /^ready pid=(\d+) /m.exec(output) ?? undefined, 60_000))[1]);
    const commandLine = (await readFile(`/proc/${String(pid)}/cmdline`, 'utf8')).split('\0');
    assert.ok(commandLine.includes(join(root, 'src', 'main.ts')));
    assert.ok(commandLine.includes('--max-semi-space-size=8'));
    const { stdout } = await runProgram(commandLine[0] ?? '', ['--version']);
    assert.match(stdout, /^v24\./);
    process.kill(pid, 'SIGTERM');
    await eventually('npx to end', () => (server.exitCode === null ? undefined : true));
    assert.equal(server.exitCode, 0);
    await folder[Symbol.asyncDispose]();
  });
});
