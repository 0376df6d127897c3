import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../../src/base/clock.ts';
import { pemEncode } from '../../../src/x509/pem.ts';
import { sha256Hex } from '../../../src/x509/keys.ts';
import { forgeLeaf, hostilePlugin } from '../../support/hostile-plugin.ts';
import { runCli } from '../../support/recording-terminal.ts';
import { tempFolder } from '../../support/temp.ts';

const template = fileURLToPath(new URL('../../../examples/plugins/typescript/src/main.ts', import.meta.url));
const td = ['--trust-domain', 'example.org'];
const plugin = (...args: string[]) => runCli(['plugin', 'test', ...args]);

describe('signet plugin test', () => {
  it('starts the template, runs every case that it can, and prints the hash of its root', async () => {
    await using folder = await tempFolder();
    const { code, stdout, stderr } = await plugin(
      ...td,
      '--signatures',
      '5',
      '--command',
      process.execPath,
      template,
      '--',
      folder.file('ca'),
    );
    assert.equal(code, 0, stdout + stderr);
    assert.match(stdout, /^ok +answers Handshake/m);
    assert.match(stdout, /^ok +says that the CA is away/m);
    assert.match(stdout, /^not run notices that the CA has another root.*\n {8}only its author/m);
    assert.match(stdout, /13 ok, 0 failed, 5 not run\n5 signatures, one after the other: p50 [\d.]+ ms, p99 [\d.]+ ms/);
    assert.match(stdout, /approvedAnchors:\n {4}- [0-9a-f]{64} {2}# CN=example\.org root/);
    assert.match(stderr, /plugin: ready/);
  });

  it('names what a plugin does wrong, in words and in JSON, and exits with 1', async () => {
    await using lying = await hostilePlugin(systemClock);
    lying.answer = async (asked) => {
      const { issuing } = lying.ca;
      return [[await forgeLeaf(issuing, asked, { notAfter: asked.notAfter * 1000 + 60_000 }), issuing.certificate]];
    };
    const words = await plugin(...td, '--signatures', '1', '--socket', lying.socket);
    assert.equal(words.code, 1);
    assert.match(words.stdout, /^FAILED {2}returns leaf.*\n.*it lives longer than was asked for/m);
    const { code, stdout } = await plugin(...td, '--signatures', '1', '--socket', lying.socket, '--json');
    const outcome = JSON.parse(stdout) as { ok: boolean; cases: { result: string }[]; anchors: { sha256: string }[] };
    assert.deepEqual([code, outcome.ok], [1, false]);
    assert.ok(outcome.cases.some(({ result }) => result === 'failed'));
    assert.deepEqual(
      outcome.anchors.map(({ sha256 }) => sha256),
      [sha256Hex(lying.ca.root)],
    );
  });

  it('trusts, with --anchors, the roots of the file alone', async () => {
    await using folder = await tempFolder();
    await using one = await hostilePlugin(systemClock);
    await using other = await hostilePlugin(systemClock);
    await writeFile(folder.file('root.pem'), pemEncode('CERTIFICATE', one.ca.root));
    const test = (socket: string) => plugin(...td, '--signatures', '1', '--socket', socket, '--anchors', folder.file('root.pem'));
    const known = await test(one.socket);
    assert.equal(known.code, 0, known.stdout);
    const strange = await test(other.socket);
    assert.equal(strange.code, 1);
    assert.match(strange.stdout, new RegExp(`^FAILED {2}names no root but those of --anchors\\n.*${sha256Hex(other.ca.root)}`, 'm'));
  });

  it('stops at the first case if nobody answers', async () => {
    await using folder = await tempFolder();
    const { code, stdout } = await plugin(...td, '--start-timeout', '500ms', '--socket', folder.file('nobody.sock'));
    assert.equal(code, 1);
    assert.match(stdout, /^FAILED {2}answers Handshake.*\n.*\n\n0 ok, 1 failed, 0 not run\n$/m);
  });

  it('says what is wrong with the command line, and exits with 2', async () => {
    const wrong: readonly (readonly [readonly string[], RegExp])[] = [
      [[], /--trust-domain/],
      [td, /exactly one of --command, --socket and --address/],
      [[...td, '--socket', 'a', '--address', 'localhost:1'], /exactly one of/],
      [[...td, '--address', 'localhost:1'], /--address needs --tls-ca/],
      [['--trust-domain', 'Example', '--socket', 'a'], /trust domain/],
      [[...td, '--command', 'a', '--environment', 'b'], /NAME=VALUE/],
    ];
    for (const [args, says] of wrong) {
      const { code, stderr } = await plugin(...args);
      assert.equal(code, 2, stderr);
      assert.match(stderr, says);
    }
  });
});
