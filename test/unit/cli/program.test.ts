import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Command } from 'commander';
import { buildProgram } from '../../../src/cli/program.ts';
import { newSession } from '../../../src/cli/session.ts';
import { recordingTerminal, runCli } from '../../support/recording-terminal.ts';

const commandNames = ['server', 'demo', 'status', 'certs', 'ca', 'deny', 'token', 'csr', 'envoy', 'config'];

function leaves(command: Command, path: readonly string[] = []): readonly (readonly string[])[] {
  const children = command.commands.filter((child) => child.name() !== 'help');
  return children.length === 0 ? [path] : children.flatMap((child) => leaves(child, [...path, child.name()]));
}

describe('help', () => {
  it('names every command, on stdout, and is no failure', async () => {
    const { code, stdout, stderr } = await runCli(['--help']);
    assert.equal(code, 0);
    assert.equal(stderr, '');
    for (const name of commandNames) assert.match(stdout, new RegExp(`^  ${name} `, 'm'));
    assert.match(stdout, /First steps:/);
  });

  it('teaches with an example at every command', async () => {
    const program = await buildProgram(newSession(recordingTerminal()), 'all');
    const paths = leaves(program);
    assert.ok(paths.length >= 12);
    for (const path of paths) {
      const { code, stdout } = await runCli([...path, '--help']);
      assert.equal(code, 0, path.join(' '));
      assert.match(stdout, new RegExp(`Examples:\n  # .+\n  \\$ signet ${path.join(' ')}`), path.join(' '));
    }
  });

  it('is the same by `help COMMAND`', async () => {
    const asked = await runCli(['help', 'token']);
    const flag = await runCli(['token', '--help']);
    assert.equal(asked.code, 0);
    assert.equal(asked.stdout, flag.stdout);
  });

  it('has no escape sequences where nobody asked for colours', async () => {
    const { stdout } = await runCli(['--help']);
    assert.ok(!stdout.includes('\u001b'));
  });
});

describe('wrong usage exits with 2, says what is wrong on stderr, and prints nothing on stdout', () => {
  const cases: readonly (readonly [args: readonly string[], says: RegExp])[] = [
    [[], /Usage: signet/],
    [['frobnicate'], /unknown command 'frobnicate'/],
    [['certs'], /Usage: signet certs/],
    [['certs', 'lst'], /Did you mean list\?/],
    [['token', '--namespace', 'shop'], /--service-account/],
    [['token', '--namespace', 'shop', '--service-account', 'web', '--ttl', '5'], /is not a duration/],
    [['token', '--namespace', 'shop', '--service-account', 'web', '--watch'], /--watch needs --out/],
    [['deny', 'web'], /not a SPIFFE ID/],
    [['deny'], /name the identity, or say --list/],
    [['deny', '--list', '--lift'], /cannot be used with/],
    [['certs', 'renew'], /--identity/],
    [['certs', 'list', '--limit', '0'], /whole number from 1/],
    [['csr', '--token-file', 't', '--key-dir', 'k'], /--ca FILE/],
    [['csr', '--token-file', 't', '--key-dir', 'k', '--ca', 'c', '--server', 'nowhere'], /HOST:PORT/],
    [['server'], /--config FILE, or --dev/],
    [['server', '--leaf-ttl', '20s', '--config', 'x'], /--leaf-ttl is for --dev/],
    [['server', '--dev', '--leaf-ttl', 'soon'], /is not a duration/],
    [['server', '--dev', '--grpc', '127.0.0.1'], /HOST:PORT/],
    [['envoy', 'bootstrap'], /--data DIR .*--ca FILE/],
    [['envoy', 'bootstrap', '--auth', 'magic'], /Allowed choices/],
    [['config', 'check'], /name the file/],
    [['demo', '--leaf-ttl', '1s'], /At least 5s/],
  ];
  for (const [args, says] of cases) {
    it(`signet ${args.join(' ')}`, async () => {
      const { code, stdout, stderr } = await runCli(args);
      assert.equal(code, 2);
      assert.equal(stdout, '');
      assert.match(stderr, says);
    });
  }
});

describe('version', () => {
  it('is that of the package', async () => {
    const { code, stdout } = await runCli(['--version']);
    assert.equal(code, 0);
    assert.match(stdout, /^\d+\.\d+\.\d+\n$/);
  });
});
