import assert from 'node:assert/strict';
import { createPrivateKey } from 'node:crypto';
import { readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { parse } from 'yaml';
import { systemClock } from '../../../src/base/clock.ts';
import { openFilesAuthority } from '../../../src/ca/files/files-authority.ts';
import { signerKeyKinds } from '../../../src/ca/signer.ts';
import { parseTrustDomain } from '../../../src/spiffe/id.ts';
import { parseCertificate } from '../../../src/x509/certificate.ts';
import { verifyChain } from '../../../src/x509/chain.ts';
import { certificatesFromPem } from '../../../src/x509/pem.ts';
import { signingRequest } from '../../support/authority-suite.ts';
import { openssl } from '../../support/openssl.ts';
import { runCli } from '../../support/recording-terminal.ts';
import { silentLog } from '../../support/silent-log.ts';
import { tempFolder } from '../../support/temp.ts';
import type { TempFolder } from '../../support/temp.ts';

const passphrase = 'correct horse battery';
const never = new AbortController().signal;

async function world(): Promise<TempFolder> {
  const folder = await tempFolder();
  await writeFile(folder.file('passphrase'), `${passphrase}\n`, { mode: 0o600 });
  return folder;
}

const keyIn = (folder: TempFolder, name: string) => ['--key-file', folder.file(name), '--passphrase-file', folder.file('passphrase')];
const ofExample = ['--trust-domain', 'example.org'];

async function done(args: readonly string[]): Promise<{ stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await runCli(['ca', ...args]);
  assert.equal(code, 0, stderr);
  assert.ok(!(stdout + stderr).includes(passphrase));
  return { stdout, stderr };
}

async function refused(args: readonly string[], says: RegExp, exitCode = 1): Promise<void> {
  const { code, stdout, stderr } = await runCli(['ca', ...args]);
  assert.equal(code, exitCode, stderr);
  assert.equal(stdout, '');
  assert.match(stderr, says);
}

interface FilesBackend {
  readonly root: string;
  readonly intermediate?: string;
  readonly key: string;
  readonly passphraseFile: string;
}

/** Opens what the command printed, as the server does, and has it sign. */
async function signsBy(printed: string): Promise<void> {
  const { type, ...backend } = (parse(printed) as { ca: { backends: { own: FilesBackend & { type: string } } } }).ca.backends.own;
  assert.equal(type, 'files');
  const trustDomain = parseTrustDomain('example.org');
  const files = { rootFile: backend.root, intermediateFile: backend.intermediate, keyFile: backend.key, passphrase };
  const authority = await openFilesAuthority({ name: 'own', trustDomain, clock: systemClock, log: silentLog, ...files });
  const { certificates } = await authority.sign(signingRequest(trustDomain), never);
  verifyChain(certificates, await authority.anchors(never), Date.now());
}

describe('signet ca init', () => {
  for (const kind of signerKeyKinds) {
    it(`makes a root with an encrypted ${kind} key, and prints the backend that signs by it`, async () => {
      await using folder = await world();
      const { stdout } = await done(['init', ...ofExample, ...keyIn(folder, 'root.key'), '--key', kind, '--out', folder.file('ca')]);
      await signsBy(stdout);
      const [der = Buffer.alloc(0)] = certificatesFromPem(await readFile(folder.file('ca/root.pem'), 'utf8'));
      assert.deepEqual(parseCertificate(der).uris, ['spiffe://example.org']);
      // Whoever has the file alone has nothing: scrypt and AES-256, readable by OpenSSL.
      const file = folder.file('root.key');
      assert.equal((await stat(file)).mode & 0o777, 0o600);
      const key = await readFile(file, 'utf8');
      assert.match(key, /^-----BEGIN ENCRYPTED PRIVATE KEY-----/);
      assert.throws(() => createPrivateKey({ key, passphrase: 'another one' }));
      await openssl(['pkey', '-in', file, '-passin', `pass:${passphrase}`, '-noout', '-check']);
      await openssl(['verify', '-CAfile', folder.file('ca/root.pem'), '-x509_strict', folder.file('ca/root.pem')]);
    });
  }

  it('replaces neither a key nor a certificate, and makes no key without a place for its certificate', async () => {
    await using folder = await world();
    const args = ['init', ...ofExample, ...keyIn(folder, 'root.key')];
    await done([...args, '--out', folder.file('ca')]);
    const before = await readFile(folder.file('root.key'));
    await refused([...args, '--out', folder.file('other')], /root\.key is there already/);
    await refused(['init', ...ofExample, ...keyIn(folder, 'second.key'), '--out', folder.file('ca')], /root\.pem is there already/);
    assert.deepEqual(await readFile(folder.file('root.key')), before);
    assert.ok(!(await readdir(folder.path)).includes('second.key'));
    await done([...args, '--existing-key', '--out', folder.file('other')]);
  });

  it('says what is missing or wrong, and repeats nothing that might be a secret', async () => {
    await using folder = await world();
    await writeFile(folder.file('short'), 'seven77');
    const out = ['--out', folder.file('ca')];
    await refused(['init', ...ofExample, ...out], /say where the key is/, 2);
    await refused(['init', ...ofExample, '--key-file', 'root.key', ...out], /--key-file needs --passphrase-file/, 2);
    await refused(['init', '--trust-domain', 'Not One', ...keyIn(folder, 'k'), ...out], /A trust domain is/, 2);
    await refused(
      ['init', ...ofExample, '--key-file', folder.file('k'), '--passphrase-file', folder.file('short'), ...out],
      /at least 8 characters/,
    );
    await refused(
      ['init', ...ofExample, '--key-file', folder.file('k'), '--passphrase-file', folder.file('none'), ...out],
      /none can't be read/,
    );
    const by = (...more: readonly string[]) => ['init', ...ofExample, ...out, '--signer', ...more];
    await refused(by('drawer'), /there is no such type/);
    await refused(by('pkcs11', '--with', 'module=x'), /give exactly one of tokenLabel and slot/);
    await refused(by('pkcs11', '--with', 'modul=x'), /did you mean "module"/);
    await refused(by('pkcs11', '--with', 'hunter2'), /--with takes SETTING=VALUE/);
    const { stderr } = await runCli(['ca', ...by('pkcs11', '--with', 'hunter2')]);
    assert.ok(!stderr.includes('hunter2'));
  });
});

/** An offline root that Signet made, and a request by the server's host. */
async function exchange(folder: TempFolder): Promise<void> {
  await done(['init', ...ofExample, ...keyIn(folder, 'root.key'), '--key', 'ec-p384', '--out', folder.file('offline')]);
  await done(['csr', ...ofExample, ...keyIn(folder, 'issuing.key'), '--out', folder.file('online')]);
}

const signed = (folder: TempFolder, more: readonly string[] = []) => [
  'sign',
  ...keyIn(folder, 'root.key'),
  ...['--root', folder.file('offline/root.pem'), '--csr', folder.file('online/intermediate.csr'), '--out', folder.file('answer.pem')],
  ...more,
];

const imported = (folder: TempFolder, more: readonly string[] = ofExample) => [
  'import',
  ...keyIn(folder, 'issuing.key'),
  ...['--root', folder.file('offline/root.pem'), '--certificate', folder.file('answer.pem'), '--out', folder.file('ca')],
  ...more,
];

describe('an offline root', () => {
  it('signs by CSR exchange, and the server signs under it', async () => {
    await using folder = await world();
    await exchange(folder);
    await done(signed(folder));
    const { stdout, stderr } = await done(imported(folder));
    assert.doesNotMatch(stderr, /warning/);
    await signsBy(stdout);
    await openssl(['verify', '-CAfile', folder.file('ca/root.pem'), '-x509_strict', folder.file('ca/intermediate.pem')]);
    // Once more is no failure: what is there is what would be written.
    await done(imported(folder));
  });

  it('may be one that OpenSSL runs, which copies what the request asks for', async () => {
    await using folder = await world();
    await done(['csr', ...ofExample, ...keyIn(folder, 'issuing.key'), '--out', folder.file('online')]);
    await opensslRoot(folder);
    await opensslSigns(folder, ['-copy_extensions', 'copy']);
    const { stdout, stderr } = await done(imported(folder));
    assert.doesNotMatch(stderr, /warning/);
    await signsBy(stdout);
  });

  it('gets the intermediate renewed with the same key', async () => {
    await using folder = await world();
    await exchange(folder);
    await done(signed(folder));
    await done(imported(folder));
    await done(['csr', ...ofExample, ...keyIn(folder, 'issuing.key'), '--existing-key', '--out', folder.file('again')]);
    await done([
      'sign',
      ...signed(folder)
        .slice(1)
        .map((word) => word.replace('online/', 'again/').replace('answer.pem', 'answer2.pem')),
    ]);
    const next = imported(folder).map((word) => word.replace('answer.pem', 'answer2.pem'));
    await refused(next, /intermediate\.pem is there already/);
    await signsBy((await done([...next, '--replace'])).stdout);
  });

  it('signs no request that names something else', async () => {
    await using folder = await world();
    await exchange(folder);
    const other = ['csr', '--trust-domain', 'other.org', ...keyIn(folder, 'other.key'), '--out', folder.file('theirs')];
    await done(other);
    const theirs = signed(folder).map((word) => word.replace('online/', 'theirs/'));
    await refused(theirs, /the request is for spiffe:\/\/other\.org, but the root is of spiffe:\/\/example\.org/);
    await openssl([
      'req',
      '-new',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      folder.file('x'),
      '-subj',
      '/CN=x',
      '-out',
      folder.file('online/plain.csr'),
    ]);
    await refused(
      signed(folder).map((word) => word.replace('intermediate.csr', 'plain.csr')),
      /must name its trust domain/,
    );
    assert.ok(!(await readdir(folder.path)).includes('answer.pem'));
  });

  const answers: Readonly<Record<string, { args: readonly string[]; says: RegExp; rootArgs?: readonly string[] }>> = {
    'no CA': { args: extensions('basicConstraints=critical,CA:FALSE'), says: /is not a CA that may sign/ },
    'a CA that may not sign certificates': {
      args: extensions('basicConstraints=critical,CA:TRUE', 'keyUsage=critical,cRLSign'),
      says: /is not a CA that may sign/,
    },
    'a certificate of another trust domain': {
      args: extensions('basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign', 'subjectAltName=URI:spiffe://other.org'),
      says: /of spiffe:\/\/other\.org, not of spiffe:\/\/example\.org/,
    },
    'one that is under a root that may have no CA below it': {
      args: ['-copy_extensions', 'copy'],
      rootArgs: ['-addext', 'basicConstraints=critical,CA:TRUE,pathlen:0'],
      says: /path length/,
    },
    'one that may sign for other names alone': {
      args: extensions(
        'basicConstraints=critical,CA:TRUE',
        'keyUsage=critical,keyCertSign',
        'nameConstraints=critical,permitted;URI:other.org',
      ),
      says: /what it signs is not accepted/,
    },
  };
  for (const [what, { args, says, rootArgs }] of Object.entries(answers)) {
    it(`that answers with ${what} is refused, and nothing is written`, async () => {
      await using folder = await world();
      await done(['csr', ...ofExample, ...keyIn(folder, 'issuing.key'), '--out', folder.file('online')]);
      await opensslRoot(folder, rootArgs);
      await opensslSigns(folder, args);
      await refused(imported(folder), says);
      assert.ok(!(await readdir(folder.path)).includes('ca'));
    });
  }

  it('whose answer is for another key, or of another root, is refused', async () => {
    await using folder = await world();
    await exchange(folder);
    await done(signed(folder));
    await done(['csr', ...ofExample, ...keyIn(folder, 'second.key'), '--out', folder.file('second')]);
    await refused(
      imported(folder).map((word) => word.replace('issuing.key', 'second.key')),
      /is not the certificate of this key/,
    );
    await done(['init', ...ofExample, ...keyIn(folder, 'imposter.key'), '--out', folder.file('imposter')]);
    await refused(
      imported(folder).map((word) => word.replace('offline/', 'imposter/')),
      /does not lead to the root/,
    );
    await refused(imported(folder, ['--trust-domain', 'other.org']), /of spiffe:\/\/example\.org, not of spiffe:\/\/other\.org/);
    await writeFile(folder.file('passphrase'), 'not the right one');
    await refused(imported(folder), /the passphrase is wrong/);
  });
});

async function opensslRoot(folder: TempFolder, more: readonly string[] = ['-addext', 'basicConstraints=critical,CA:TRUE']): Promise<void> {
  const { mkdir } = await import('node:fs/promises');
  await mkdir(folder.file('offline'));
  const files = ['-keyout', folder.file('openssl.key'), '-out', folder.file('offline/root.pem')];
  const usage = ['-addext', 'keyUsage=critical,keyCertSign,cRLSign'];
  await openssl([
    'req',
    '-x509',
    '-newkey',
    'rsa:3072',
    '-nodes',
    ...files,
    '-subj',
    '/O=Example/CN=Corporate Root',
    '-days',
    '30',
    ...more,
    ...usage,
  ]);
}

async function opensslSigns(folder: TempFolder, args: readonly string[]): Promise<void> {
  const [ext, extfile] = [args[0] === 'ext' ? args.slice(1) : [], folder.file('extensions')];
  await writeFile(extfile, `${ext.join('\n')}\n`);
  await openssl([
    ...['x509', '-req', '-in', folder.file('online/intermediate.csr'), '-CA', folder.file('offline/root.pem')],
    ...['-CAkey', folder.file('openssl.key'), '-days', '20', '-out', folder.file('answer.pem'), '-CAcreateserial'],
    ...(ext.length > 0 ? ['-extfile', extfile] : args),
  ]);
}

/** Instead of what the request asks for. */
function extensions(...lines: readonly string[]): readonly string[] {
  return ['ext', ...lines];
}
