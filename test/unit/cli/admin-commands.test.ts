import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SignetError } from '../../../src/base/errors.ts';
import { fakeAdmin } from '../../support/fake-admin.ts';
import { runCli } from '../../support/recording-terminal.ts';
import { tempFolder } from '../../support/temp.ts';

const web = 'spiffe://cluster.local/ns/shop/sa/web';

function certificate(serial: string) {
  const at = Date.UTC(2026, 0, 1);
  return {
    serial,
    spiffeId: web,
    instance: 'pod:1',
    keyMode: 'csr',
    notBefore: at,
    notAfter: at + 20_000,
    issuedAt: at,
    tokenSeenAt: at,
  };
}

function status(more: object = {}) {
  return {
    version: '9.9.9',
    trustDomain: 'cluster.local',
    mode: 'production',
    ready: true,
    streamCount: 1,
    now: 10_000,
    startedAt: 1000,
    streams: [
      {
        id: 1,
        spiffeId: web,
        api: 'delta',
        nodeId: 'node\u001b]0;owned\u0007',
        envoyVersion: '1.40.0',
        secrets: [
          {
            key: 'default',
            state: 'rejected',
            serial: 'abc',
            nackClass: 'key-mismatch',
            nackDetail: 'no\u202ematch',
            renewAt: 15_000,
            notAfter: 20_000,
          },
        ],
      },
    ],
    ...more,
  };
}

type Methods = Parameters<typeof fakeAdmin>[1];

async function withServer(methods: Methods, args: readonly string[], streams?: Parameters<typeof fakeAdmin>[2]) {
  await using folder = await tempFolder();
  await using _ = await fakeAdmin(folder.file('admin.sock'), methods, streams);
  return await runCli([...args, '--data', folder.path]);
}

describe('certs', () => {
  it('lists all pages as one JSON array, with times that programs read', async () => {
    const asked: unknown[] = [];
    const { code, stdout } = await withServer(
      {
        ListCertificates: (request) => {
          asked.push(request.pageToken);
          return request.pageToken === ''
            ? { certificates: [certificate('aa'), certificate('bb')], nextPageToken: 'more' }
            : { certificates: [certificate('cc')] };
        },
      },
      ['certs', 'list', '--json'],
    );
    assert.equal(code, 0);
    assert.deepEqual(asked, ['', 'more']);
    const list = JSON.parse(stdout) as readonly { serial: string; notAfter: string }[];
    assert.deepEqual(
      list.map(({ serial }) => serial),
      ['aa', 'bb', 'cc'],
    );
    assert.equal(list[0]?.notAfter, '2026-01-01T00:00:20Z');
  });

  it('stops at --limit', async () => {
    const { stdout } = await withServer(
      { ListCertificates: () => ({ certificates: [certificate('aa'), certificate('bb')], nextPageToken: 'more' }) },
      ['certs', 'list', '--limit', '1'],
    );
    assert.equal(stdout.trim().split('\n').length, 2);
  });

  it('keeps stdout empty when there is none', async () => {
    const { code, stdout, stderr } = await withServer({ ListCertificates: () => ({ certificates: [] }) }, ['certs', 'list']);
    assert.deepEqual([code, stdout], [0, '']);
    assert.match(stderr, /No certificates/);
  });

  it('takes a serial as openssl prints it', async () => {
    let asked: unknown;
    await withServer(
      {
        GetCertificate: (request) => {
          asked = request.serial;
          return certificate('0aff');
        },
      },
      ['certs', 'show', '0A:FF'],
    );
    assert.equal(asked, '0aff');
  });

  it('fails with the server’s words when it knows no such serial', async () => {
    const { code, stderr } = await withServer({ GetCertificate: () => new SignetError('NOT_FOUND', 'no certificate of that serial') }, [
      'certs',
      'show',
      'aa',
    ]);
    assert.equal(code, 1);
    assert.match(stderr, /no certificate of that serial/);
  });

  it('fails when there is nothing to renew or to unbind', async () => {
    const renewed = await withServer({ RenewCertificate: () => ({ certificates: [] }) }, ['certs', 'renew', '--identity', web]);
    assert.equal(renewed.code, 1);
    assert.match(renewed.stderr, /no instance of .* holds a stream/);
    const unbound = await withServer({ UnbindKey: () => ({ unbound: false }) }, [
      'certs',
      'unbind',
      '--identity',
      web,
      '--instance',
      'pod:1',
    ]);
    assert.equal(unbound.code, 1);
  });
});

describe('deny', () => {
  it('is durable and says how many streams it ended', async () => {
    let asked: unknown;
    const { code, stdout } = await withServer(
      {
        DenyIdentity: (request) => {
          asked = request;
          return { streamsEnded: 3 };
        },
      },
      ['deny', web, '--reason', 'token leaked'],
    );
    assert.equal(code, 0);
    assert.match(stdout, /3 streams ended/);
    assert.deepEqual({ ...(asked as object) }, { spiffeId: web, reason: 'token leaked' });
  });

  it('fails to lift what was not denied', async () => {
    assert.equal((await withServer({ LiftDenial: () => ({ lifted: false }) }, ['deny', '--lift', web])).code, 1);
    assert.equal((await withServer({ LiftDenial: () => ({ lifted: true }) }, ['deny', '--lift', web])).code, 0);
  });

  it('shows reasons without what a terminal would obey', async () => {
    const { stdout } = await withServer(
      { ListDenials: () => ({ denials: [{ spiffeId: web, at: 1, reason: '\u001b[2Jgone\r\nfaked line' }] }) },
      ['deny', '--list'],
    );
    assert.ok(!stdout.includes('\u001b'));
    assert.equal(stdout.trim().split('\n').length, 2);
  });
});

describe('status', () => {
  it('shows each secret of each stream, and nothing that a terminal would obey', async () => {
    const { code, stdout } = await withServer({ GetStatus: () => status() }, ['status']);
    assert.equal(code, 0);
    assert.match(stdout, /ready/);
    assert.match(stdout, /rejected.*in 5s.*in 10s/);
    assert.match(stdout, /key-mismatch/);
    assert.ok(!/[\u001b\u0007\u202e]/.test(stdout));
  });

  it('names the key that signs JWT-SVIDs, until when it does, and which comes then', async () => {
    const jwtKey = { keyId: 'first\u001b[31m', signsUntil: Date.UTC(2026, 0, 2), nextKeyId: 'second' };
    const { stdout } = await withServer({ GetStatus: () => status({ jwtKey }) }, ['status']);
    assert.match(stdout, /^JWT key {2}first\S+ {2}signs until 2026-01-02T00:00:00\S*, then second$/m);
    assert.ok(!stdout.includes('\u001b'));
    const json = await withServer({ GetStatus: () => status({ jwtKey }) }, ['status', '--json']);
    assert.match(json.stdout, /"signsUntil": ?"2026-01-02T00:00:00/);
  });

  it('says of each CA how it is, whether or not it can sign', async () => {
    const authorities = [
      { name: 'below', type: 'intermediate', canSign: true, detail: 'good until May; its upstream\u001b[2J is away' },
      { name: 'other', type: 'vault', canSign: false, detail: 'no answer' },
    ];
    const { stdout } = await withServer({ GetStatus: () => status({ authorities }) }, ['status']);
    assert.match(stdout, /^CA {7}below \(intermediate\): can sign: good until May; its upstream.* is away$/m);
    assert.match(stdout, /^CA {7}other \(vault\): can't sign: no answer$/m);
    assert.ok(!stdout.includes('\u001b'));
  });

  it('fails when the server can’t sign, and says why', async () => {
    const { code, stdout } = await withServer({ GetStatus: () => status({ ready: false, detail: 'the clock is behind' }) }, ['status']);
    assert.equal(code, 1);
    assert.match(stdout, /NOT READY: the clock is behind/);
  });

  it('watches as lines of JSON, and fails when the server goes away', async () => {
    const { code, stdout, stderr } = await withServer({}, ['status', '--watch', '--json'], {
      WatchStatus: [status(), status({ streamCount: 2 })],
    });
    const counts = stdout
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { streamCount: number }).streamCount);
    assert.deepEqual(counts, [1, 2]);
    assert.equal(code, 1);
    assert.match(stderr, /went away/);
  });
});

describe('a server that does not answer', () => {
  it('is told from a folder that is none of its', async () => {
    await using folder = await tempFolder();
    const { code, stderr } = await runCli(['status', '--data', folder.path]);
    assert.equal(code, 1);
    assert.match(stderr, /no server runs on .*: start it, or name its folder with --data/);
  });

  it('never blames the socket when its path is too long for the system', async () => {
    const { code, stderr } = await runCli(['status', '--socket', `/tmp/${'x'.repeat(120)}`]);
    assert.equal(code, 1);
    assert.match(stderr, /longer than 107 bytes/);
  });
});
