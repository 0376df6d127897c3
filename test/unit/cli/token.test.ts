import assert from 'node:assert/strict';
import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { createLocalJWKSet, decodeJwt, jwtVerify } from 'jose';
import { createDevIssuerKey, openDevIssuer } from '../../../src/identity/dev-issuer.ts';
import { eventually } from '../../support/eventually.ts';
import { recordingTerminal, runCli } from '../../support/recording-terminal.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';
import { tempFolder } from '../../support/temp.ts';
import type { TempFolder } from '../../support/temp.ts';

/** A data folder as a server in dev mode leaves it, and the keys that it would publish. */
async function devFolder() {
  const folder = await tempFolder();
  const key = createDevIssuerKey();
  await writeFile(folder.file('issuer.key'), key, { mode: 0o600 });
  const issuer = openDevIssuer(key, { clock: simulatedClock() });
  const keys = createLocalJWKSet(issuer.jwks() as Parameters<typeof createLocalJWKSet>[0]);
  return Object.assign(folder, {
    verified: async (token: string) => (await jwtVerify(token, keys, { issuer: issuer.issuer, audience: 'signet' })).payload,
  });
}

const wish = (folder: TempFolder, ...more: readonly string[]): readonly string[] => [
  'token',
  '--data',
  folder.path,
  '--namespace',
  'shop',
  '--service-account',
  'web',
  ...more,
];

interface Kubernetes {
  readonly namespace: string;
  readonly pod: { readonly name: string; readonly uid: string };
  readonly serviceaccount: { readonly name: string };
}

function kubernetesClaims(token: string): Kubernetes {
  return decodeJwt<{ 'kubernetes.io': Kubernetes }>(token)['kubernetes.io'];
}

describe('signet token', () => {
  it('prints a token that verifies with the published keys, and no newline into a pipe', async () => {
    await using folder = await devFolder();
    const { code, stdout } = await runCli(wish(folder));
    assert.equal(code, 0);
    const payload = await folder.verified(stdout);
    assert.equal(payload.sub, 'system:serviceaccount:shop:web');
    assert.equal((payload.exp ?? 0) - (payload.iat ?? 0), 3600);
    assert.ok(!stdout.includes('\n'));
  });

  it('ends with a newline on a terminal, for the prompt to stand on a line of its own', async () => {
    await using folder = await devFolder();
    const { stdout } = await runCli(wish(folder), recordingTerminal({ interactive: true }));
    assert.ok(stdout.endsWith('\n'));
  });

  it('claims to be of pod SERVICE_ACCOUNT-0 unless told otherwise; a pod keeps its uid, and two pods differ', async () => {
    await using folder = await devFolder();
    const [first, again, second] = await Promise.all([
      runCli(wish(folder)),
      runCli(wish(folder)),
      runCli(wish(folder, '--pod', 'web-1')),
    ]).then((results) => results.map(({ stdout }) => kubernetesClaims(stdout).pod));
    assert.equal(first?.name, 'web-0');
    assert.equal(again?.uid, first.uid);
    assert.equal(second?.name, 'web-1');
    assert.notEqual(second.uid, first.uid);
  });

  it('takes audience and life', async () => {
    await using folder = await devFolder();
    const { stdout } = await runCli(wish(folder, '--audience', 'istio-ca', '--ttl', '90s'));
    const { aud, exp = 0, iat = 0 } = decodeJwt(stdout);
    assert.deepEqual(aud, ['istio-ca']);
    assert.equal(exp - iat, 90);
  });

  it('writes a file for its owner alone, without a newline, in place of what was there', async () => {
    await using folder = await devFolder();
    const out = folder.file('web.token');
    await writeFile(out, 'old and readable by all\n');
    await chmod(out, 0o644);
    const before = await stat(out);
    const { code, stdout } = await runCli(wish(folder, '--out', out));
    assert.deepEqual([code, stdout], [0, '']);
    const after = await stat(out);
    assert.equal(after.mode & 0o777, 0o600);
    // Another file under the name: whoever had opened the old one never sees half of the new.
    assert.notEqual(after.ino, before.ino);
    const token = await readFile(out, 'utf8');
    assert.ok(!/\s/.test(token));
    await folder.verified(token);
  });

  it('keeps a file fresh until interrupted', async () => {
    await using folder = await devFolder();
    const out = folder.file('web.token');
    const terminal = recordingTerminal();
    const running = runCli(wish(folder, '--out', out, '--ttl', '2s', '--watch'), terminal);
    const first = await eventually('a first token', () => readFile(out, 'utf8'));
    const second = await eventually('another token', async () => {
      const token = await readFile(out, 'utf8');
      return token === first ? undefined : token;
    });
    await folder.verified(second);
    terminal.interrupt();
    assert.equal((await running).code, 0);
  });

  it('says what to do where there is no development issuer', async () => {
    await using folder = await tempFolder();
    const { code, stdout, stderr } = await runCli(wish(folder));
    assert.equal(code, 1);
    assert.equal(stdout, '');
    assert.match(stderr, /no development issuer in .*signet server --dev --data/);
  });

  it('refuses names that Kubernetes would not take', async () => {
    await using folder = await devFolder();
    const { code, stderr } = await runCli(['token', '--data', folder.path, '--namespace', 'a/b', '--service-account', 'web']);
    assert.equal(code, 1);
    assert.match(stderr, /namespace's name/);
  });

  it('never shows the key of an issuer file that is damaged', async () => {
    await using folder = await devFolder();
    const file = folder.file('issuer.key');
    const pem = await readFile(file, 'utf8');
    await writeFile(file, pem.replace('PRIVATE', 'PRIVTE'));
    const { code, stderr } = await runCli(wish(folder));
    assert.equal(code, 1);
    assert.ok(!stderr.includes(pem.split('\n')[1] ?? pem));
  });
});
