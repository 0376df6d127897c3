import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chmod, copyFile, cp, mkdir, open, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { run } from '../../src/cli/program.ts';
import type { Terminal } from '../../src/cli/terminal.ts';
import { loadConfig } from '../../src/server/config/load.ts';
import { startServer } from '../../src/server/start.ts';
import type { Ran } from '../support/process.ts';
import { identityIn } from '../support/received-identity.ts';
import { failingStart, serverProcess } from '../support/whole-server-process.ts';
import { bindKey, web, wholeServer } from '../support/whole-server.ts';
import type { BoundKey, WholeServer } from '../support/whole-server.ts';

/** A production folder with a bound key in it, whose server has stopped. */
let whole: WholeServer;
let bound: BoundKey;
before(async () => {
  whole = await wholeServer();
  bound = await bindKey(whole, web);
  await whole.stop();
});
after(() => whole[Symbol.asyncDispose]());

interface Failure {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly says: RegExp;
  /** In a process of its own, as its user runs it; else the same program in this one. */
  readonly by?: (args: readonly string[], env: Readonly<Record<string, string>>) => Promise<Ran>;
}

/** One clear line on stderr, nothing on stdout, exit code 1. */
async function fails({ args = ['--config', whole.folder.configFile], env = {}, says, by = startHere }: Failure): Promise<void> {
  const { code, stdout, stderr } = await by(args, env);
  assert.deepEqual({ code, stdout }, { code: 1, stdout: '' }, stderr);
  const lines = stderr.trimEnd().split('\n');
  assert.equal(lines.length, 1, stderr);
  assert.match(lines[0] ?? '', /^signet: /);
  assert.match(lines[0] ?? '', says);
}

async function startHere(args: readonly string[], env: Readonly<Record<string, string>>): Promise<Ran> {
  let [stdout, stderr] = ['', ''];
  const terminal: Terminal = {
    env,
    out: (text) => (stdout += text),
    err: (text) => (stderr += text),
    interactive: false,
    colors: false,
    columns: () => 0,
    // One that starts after all ends by this.
    interrupted: () => AbortSignal.timeout(20_000),
    onHangup: () => () => undefined,
  };
  return { code: await run(['server', ...args], terminal), stdout, stderr };
}

/** The server starts again as if nothing had been, with what was bound. */
async function nothingLost(): Promise<void> {
  await whole.start();
  const stream = whole.doors.sds().stream('sotw', whole.folder.bearer(web));
  stream.send({ resource_names: ['default'] });
  assert.equal(identityIn(await stream.next()).leaf.spkiSha256, bound.key.spkiSha256);
  await whole.stop();
}

describe('a server that cannot start says why, exits with 1, and loses nothing:', () => {
  it('somebody has its port', async () => {
    const holder = createServer();
    await new Promise<void>((resolve) => holder.listen(0, '127.0.0.1', resolve));
    const taken = `127.0.0.1:${String((holder.address() as AddressInfo).port)}`;
    try {
      await fails({
        env: { SIGNET_LISTEN__GRPC: taken },
        says: new RegExp(`listen\\.grpc: can't listen on ${taken}: another program`),
        by: failingStart,
      });
      await fails({ env: { SIGNET_LISTEN__HTTP: taken }, says: new RegExp(`listen\\.http: can't listen on ${taken}: another program`) });
    } finally {
      holder.close();
    }
    await nothingLost();
  });

  it('another server has its folder, and goes on', async () => {
    await using first = await serverProcess(whole.folder);
    await fails({ says: /another|in use|locked/i, by: failingStart });
    const stream = first.doors.sds().stream('sotw', whole.folder.bearer(web));
    stream.send({ resource_names: ['default'] });
    assert.equal(identityIn(await stream.next()).leaf.spkiSha256, bound.key.spkiSha256);
    assert.equal(await first.end('SIGTERM'), 0);
    await nothingLost();
  });

  it('the key-encryption key is another one, is none, or is gone', async () => {
    const wrong = whole.folder.temp.file('wrong-kek');
    await writeFile(wrong, randomBytes(32).toString('base64'));
    await fails({ env: { SIGNET_CA__KEYENCRYPTION__KEYFILE: wrong }, says: /key-encryption key/, by: failingStart });
    await writeFile(wrong, 'c2hvcnQ=');
    await fails({ env: { SIGNET_CA__KEYENCRYPTION__KEYFILE: wrong }, says: /32 .*bytes/ });
    await fails({
      env: { SIGNET_CA__KEYENCRYPTION__KEYFILE: `${wrong}.none` },
      says: /ca\.keyEncryption\.keyFile: .*\.none can't be read/,
    });
    await nothingLost();
  });

  it('the passphrase is wrong', async () => {
    const [right, wrong] = [whole.folder.temp.file('passphrase'), whole.folder.temp.file('wrong-passphrase')];
    await writeFile(right, 'correct horse battery staple\n');
    await writeFile(wrong, 'correct horse battery stapler\n');
    // A folder of its own, whose keys are under a passphrase from the start.
    const data = whole.folder.temp.file('sealed');
    const [good, bad] = await Promise.all([right, wrong].map((passphraseFile) => withPassphrase(passphraseFile, data)));
    assert.ok(good !== undefined && bad !== undefined);
    await starts(good);
    await fails({ args: ['--config', bad], says: /passphrase/ });
    await starts(good);
  });

  it('the database is damaged', async () => {
    const copy = whole.folder.temp.file('copy');
    await cp(whole.folder.data, copy, { recursive: true, mode: 0 });
    await chmod(copy, 0o700);
    const env = { SIGNET_DATA: copy, SIGNET_LISTEN__ADMIN: `${copy}/admin.sock` };
    const database = `${copy}/signet.db`;
    const { size } = await stat(database);
    const handle = await open(database, 'r+');
    await handle.write(randomBytes(size - 4096), 0, size - 4096, 4096);
    await handle.close();
    await fails({ env, says: /signet\.db.*(damaged|corrupt)|(damaged|corrupt).*signet\.db/i });
    await copyFile(`${whole.folder.data}/signet.db`, database);
    await truncate(database, Math.floor(size / 2));
    await fails({ env, says: /damaged|corrupt/i });
    await writeFile(database, 'this is no database, whatever its name may be');
    await fails({ env, says: /damaged|corrupt|no(t a)? database/i });
    const before = await readFile(database);
    assert.equal(before.toString(), 'this is no database, whatever its name may be', 'what is there is left alone');
    await copyFile(`${whole.folder.data}/signet.db`, database);
    await whole.folder.configure({ data: copy }, `${copy}.yaml`);
    await starts(`${copy}.yaml`);
  });

  it('the folder is of another trust domain', async () => {
    await fails({
      args: ['--config', whole.folder.configFile, '--trust-domain', 'example.com'],
      says: /belongs to the trust domain example\.org/,
    });
    await nothingLost();
  });

  it('the folder is of the other mode', async () => {
    await fails({ args: ['--config', whole.folder.configFile, '--dev'], says: /is a production folder/ });
    const dev = whole.folder.temp.file('dev');
    await mkdir(dev, { mode: 0o700 });
    await writeFile(`${dev}/folder.json`, JSON.stringify({ format: 1, mode: 'dev', trustDomain: 'example.org' }));
    await fails({ env: { SIGNET_DATA: dev }, says: /was made with --dev/ });
    await nothingLost();
  });

  it('the folder is not to be written, not its own, or open to others', async () => {
    await fails({ env: { SIGNET_DATA: '/proc/signet' }, says: /\/proc\/signet can't be made or written to/ });
    await fails({ env: { SIGNET_DATA: whole.folder.configFile }, says: /can't be made or written to/ });
    const open = whole.folder.temp.file('open');
    await mkdir(open);
    await chmod(open, 0o755);
    await fails({ env: { SIGNET_DATA: open }, says: /must be 0700: chmod 700/ });
  });

  it('the configuration has mistakes: each by its file, line and column, all at once', async () => {
    const text = await readFile(whole.folder.configFile, 'utf8');
    const file = whole.folder.temp.file('mistaken.yaml');
    await writeFile(file, text.replace('"trustDomain"', '"trustDomian"').replace('"level": "error"', '"level": "eror"'));
    const { code, stdout, stderr } = await failingStart(['--config', file]);
    assert.deepEqual({ code, stdout }, { code: 1, stdout: '' });
    const [line] = text.split('\n').flatMap((one, i) => (one.includes('"level"') ? [i + 1] : []));
    assert.match(stderr, new RegExp(`${file}:2:3: trustDomian: there is no such setting \\(did you mean "trustDomain"\\?\\)`));
    assert.match(stderr, new RegExp(`${file}:${String(line)}:14: log\\.level: must be one of .* \\(did you mean "error"\\?\\)`));
    await writeFile(file, `${text.slice(0, -4)},`);
    const cut = await startHere(['--config', file], {});
    assert.equal(cut.code, 1);
    for (const told of cut.stderr.trimEnd().split('\n')) assert.match(told, new RegExp(`${file}:\\d+:\\d+: not valid YAML: `));
    await fails({ args: ['--config', `${file}.none`], says: /can't read the configuration .*: there is no such file/ });
    // Wrong usage is another matter.
    const usage = await startHere(['--confg', file], {});
    assert.equal(usage.code, 2);
    assert.match(usage.stderr, /--confg/);
  });
});

async function withPassphrase(passphraseFile: string, data: string): Promise<string> {
  const text = JSON.parse(await readFile(whole.folder.configFile, 'utf8')) as Record<string, unknown>;
  const file = `${passphraseFile}.yaml`;
  await writeFile(file, JSON.stringify({ ...text, data, ca: { keyEncryption: { passphraseFile } } }));
  return file;
}

/** Starts a server that should start, and ends it. */
async function starts(configFile: string): Promise<void> {
  const server = await startServer(await loadConfig({ file: configFile, env: {} }), { dev: false });
  await server.close();
}
