import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { pemEncode } from '../../src/x509/pem.ts';
import { altNames, extensionRequest, foreignKey, forgeCsr } from '../support/forge.ts';
import type { Refusal } from '../support/grpc-caller.ts';
import type { RawStream } from '../support/raw-sds-client.ts';
import { identityIn } from '../support/received-identity.ts';
import { bindKey, endOf, idOf, keyDirectory, madeWeb, web, wholeServer } from '../support/whole-server.ts';
import type { WholeServer } from '../support/whole-server.ts';

let whole: WholeServer;
/** A stream that minds its own business; whatever others send, it gets its certificates. */
let quiet: RawStream;
before(async () => {
  whole = await wholeServer();
  quiet = whole.doors.sds().stream('delta', whole.folder.bearer(madeWeb));
  quiet.send({ resource_names_subscribe: ['default', 'ROOTCA'] });
  const names = new Set<string>();
  while (names.size < 2) for (const { name } of (await quiet.next()).secrets) names.add(name);
});
after(async () => {
  await whole[Symbol.asyncDispose]();
});

async function othersAreUndisturbed(): Promise<void> {
  await quiet.quiet(1);
  await whole.doors.admin.call('RenewCertificate', { spiffe_id: idOf(madeWeb) });
  const received = await quiet.next();
  identityIn(received);
  quiet.send({ response_nonce: received.nonce });
}

const secrets = '/envoy.service.secret.v3.SecretDiscoveryService';
const unaryMethods = [
  `${secrets}/FetchSecrets`,
  '/signet.v1.CertificateService/SignCertificate',
  '/signet.v1.CertificateService/BindKey',
  '/signet.v1.CertificateService/SignJwtSvid',
  '/signet.v1.CertificateService/GetJwtBundle',
  '/istio.v1.auth.IstioCertificateService/CreateCertificate',
  '/grpc.health.v1.Health/Check',
];

/** Bytes that are no message of any of our types, and such as are one that was cut off. */
const garbage: readonly (readonly [what: string, bytes: Buffer])[] = [
  ['a varint without an end', Buffer.alloc(40, 0xff)],
  ['field number zero', Buffer.from([0x02, 0x01, 0x61])],
  ['a wire type that there is not', Buffer.from([0x0f, 0x01])],
  ['a length past the end', Buffer.from([0x0a, 0x7f, 0x61])],
  ['a length of four gigabytes', Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x61])],
  ['a length of more than there are numbers', Buffer.from([0x0a, ...Array<number>(9).fill(0xff), 0x01])],
  ['a group without an end', Buffer.from([0x0b, 0x0b, 0x0b])],
  ['text', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
];

describe('bytes that are no request', () => {
  for (const [what, bytes] of garbage) {
    it(`${what}: a definite code at every door, and nothing of ours in it`, async () => {
      for (const path of unaryMethods) {
        for (const metadata of [{}, whole.folder.bearer(web)]) {
          const refusal = await whole.doors.unary(path, bytes, metadata);
          assert.ok(!Buffer.isBuffer(refusal), `${path} answered it`);
          // Who shows nothing may be told that first.
          assert.ok(
            refusal.reason === 'INVALID_ARGUMENT' || refusal.reason === 'UNAUTHENTICATED',
            `${path}: ${String(refusal.code)} ${refusal.details}`,
          );
          assert.match(refusal.details, /^(?:not a protobuf message.*|authentication failed)$/, 'no word of how it is made');
        }
      }
      for (const api of ['sotw', 'delta'] as const) {
        const stream = whole.doors.sds().stream(api, whole.folder.bearer(web));
        stream.sendBytes(bytes);
        const { code, reason } = await endOf(stream);
        assert.deepEqual({ code, reason }, { code: 3, reason: 'INVALID_ARGUMENT' });
      }
      await othersAreUndisturbed();
    });
  }

  it('over the limit: RESOURCE_EXHAUSTED at every door', async () => {
    const large = Buffer.concat([Buffer.from([0x0a, 0x80, 0x80, 0x40]), Buffer.alloc(1024 * 1024)]);
    for (const path of unaryMethods) {
      const refusal = await whole.doors.unary(path, large, whole.folder.bearer(web));
      assert.ok(!Buffer.isBuffer(refusal));
      assert.equal(refusal.code, 8, `${path}: ${refusal.details}`);
    }
    for (const api of ['sotw', 'delta'] as const) {
      const stream = whole.doors.sds().stream(api, whole.folder.bearer(web));
      stream.sendBytes(large);
      assert.equal((await endOf(stream)).code, 8);
    }
    await othersAreUndisturbed();
  });

  it('cut off at any octet: refused, and never anything else', async () => {
    const csr = createCsr(generateKeyPair(), []);
    const request = Buffer.concat([Buffer.from([0x0a, 0x80 | (csr.length & 0x7f), csr.length >> 7]), csr]);
    const bearer = whole.folder.bearer({ serviceAccount: 'cut' });
    const cuts = [...Array(12).keys(), ...Array.from({ length: 12 }, (_, i) => 12 + Math.floor(((csr.length - 12) * i) / 12))];
    const answers = await Promise.all(
      cuts.map((end) => whole.doors.unary('/signet.v1.CertificateService/SignCertificate', request.subarray(0, end), bearer)),
    );
    for (const answer of answers) {
      assert.ok(!Buffer.isBuffer(answer));
      assert.ok(answer.reason === 'INVALID_ARGUMENT' || answer.reason === 'INVALID_CSR', answer.details);
    }
    // A folder that is cut off would be another folder.
    const bound = Buffer.concat([request, Buffer.from([0x12, keyDirectory.length + 1]), Buffer.from(keyDirectory)]);
    const cut = await whole.doors.unary('/signet.v1.CertificateService/BindKey', bound, bearer);
    assert.ok(!Buffer.isBuffer(cut));
    assert.equal(cut.reason, 'INVALID_ARGUMENT');
    await othersAreUndisturbed();
  });

  it('for methods and services that there are not: UNIMPLEMENTED', async () => {
    for (const path of [
      '/signet.v1.CertificateService/SignWitSvid',
      '/signet.v1.AdminService/ListCertificates',
      '/signet.v1.AdminService/DenyIdentity',
      '/x/y',
      `${secrets}/streamSecrets`,
    ]) {
      const refusal = await whole.doors.unary(path, Buffer.alloc(0), whole.folder.bearer(web));
      assert.ok(!Buffer.isBuffer(refusal));
      assert.equal(refusal.code, 12, path);
    }
  });
});

describe('requests that nobody should get a certificate for', () => {
  const key = generateKeyPair();
  const own = idOf(web);
  const names = (uris: readonly string[], more: readonly (readonly [number, string])[] = []): Buffer =>
    forgeCsr({ key: key.privateKey, attributes: [extensionRequest(altNames([...uris.map((uri) => [0x86, uri] as const), ...more]))] });
  const good = createCsr(key, [own]);
  const tampered = Buffer.from(good);
  tampered.writeUInt8(tampered.readUInt8(tampered.length - 1) ^ 1, tampered.length - 1);
  const another = forgeCsr({ key: key.privateKey, spki: generateKeyPair().spki });
  const many = Array.from({ length: 10_000 }, (_, i) => `spiffe://example.org/ns/shop/sa/web-${String(i)}`);
  const requests: readonly (readonly [what: string, csr: Buffer, reason: string])[] = [
    ['a bad signature', tampered, 'INVALID_CSR'],
    ["another's key", another, 'INVALID_CSR'],
    ['RSA of 1024 bits', forgeCsr({ key: foreignKey('rsa-1024') }), 'INVALID_CSR'],
    ['Ed25519', forgeCsr({ key: foreignKey('ed25519') }), 'INVALID_CSR'],
    ['P-521', forgeCsr({ key: foreignKey('P-521') }), 'INVALID_CSR'],
    ['secp256k1', forgeCsr({ key: foreignKey('secp256k1') }), 'INVALID_CSR'],
    ["another's name", names(['spiffe://example.org/ns/shop/sa/admin']), 'INVALID_CSR'],
    ["the control plane's name", names(['spiffe://example.org/signet/server']), 'INVALID_CSR'],
    ['the name in another trust domain', names(['spiffe://example.com/ns/shop/sa/web']), 'INVALID_CSR'],
    ['the name and one more', names([own, 'spiffe://example.org/ns/shop/sa/admin']), 'INVALID_CSR'],
    ['the name twice over', names([own, own]), 'INVALID_CSR'],
    ['the name and a DNS name', names([own], [[0x82, 'admin.example.org']]), 'INVALID_CSR'],
    ['the name and an IP address', names([own], [[0x87, '\x0a\0\0\x01']]), 'INVALID_CSR'],
    ['the name with a NUL in it', names([`${own}\0.evil`]), 'INVALID_CSR'],
    ['2,000 names', names(many.slice(0, 2000)), 'TOO_LARGE'],
    ['names of 100 KB', names([`spiffe://example.org/${'x'.repeat(100_000)}`]), 'TOO_LARGE'],
    ['nothing', Buffer.alloc(0), 'INVALID_CSR'],
    ['a letter', Buffer.from('x'), 'INVALID_CSR'],
    ['zeros', Buffer.alloc(2000), 'INVALID_CSR'],
    ['half of it', good.subarray(0, good.length / 2), 'INVALID_CSR'],
    ['something after it', Buffer.concat([good, Buffer.from([0])]), 'INVALID_CSR'],
    ['lengths without end', Buffer.from([0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x30, 0x80]), 'INVALID_CSR'],
    [
      'sequences in sequences',
      Buffer.concat(Array.from({ length: 2000 }, (_, i) => Buffer.from([0x30, 0x82, ...be16(8000 - 4 * i - 4)]))),
      'INVALID_CSR',
    ],
  ];

  for (const [what, csr, reason] of requests) {
    it(`${what}: ${reason} at each door`, async () => {
      // The rate of binding is limited, and each of these counts: so every one is another pod's.
      const bearer = whole.folder.bearer({ ...web, uid: `pod-${String(requests.findIndex(([name]) => name === what))}` });
      const refusals: Readonly<Record<string, Refusal>> = {
        SignCertificate: await whole.doors.workload.refused('SignCertificate', { csr }, bearer),
        BindKey: await whole.doors.workload.refused('BindKey', { csr, key_directory: keyDirectory }, bearer),
        CreateCertificate: await whole.doors.istio.refused('CreateCertificate', { csr: pemEncode('CERTIFICATE REQUEST', csr) }, bearer),
      };
      for (const [door, refusal] of Object.entries(refusals)) {
        assert.deepEqual({ door, reason: refusal.reason }, { door, reason });
        assert.ok([3, 8].includes(refusal.code));
        assert.ok(refusal.details.length < 1000 && !/[^\x20-\x7e\u2019]/.test(refusal.details), JSON.stringify(refusal.details));
      }
    });
  }

  it('10,000 names: RESOURCE_EXHAUSTED', async () => {
    // Larger than any message that is taken.
    const csr = names(many);
    assert.equal((await whole.doors.workload.refused('SignCertificate', { csr }, whole.folder.bearer(web))).code, 8);
    assert.equal((await whole.doors.workload.refused('BindKey', { csr, key_directory: keyDirectory }, whole.folder.bearer(web))).code, 8);
    assert.equal(
      (await whole.doors.istio.refused('CreateCertificate', { csr: pemEncode('CERTIFICATE REQUEST', csr) }, whole.folder.bearer(web))).code,
      8,
    );
  });

  it('1 MB: RESOURCE_EXHAUSTED', async () => {
    const csr = Buffer.alloc(1024 * 1024, 0x30);
    for (const [method, more] of [
      ['SignCertificate', {}],
      ['BindKey', { key_directory: keyDirectory }],
    ] as const) {
      assert.equal((await whole.doors.workload.refused(method, { csr, ...more }, whole.folder.bearer(web))).code, 8);
    }
    assert.equal(
      (await whole.doors.istio.refused('CreateCertificate', { csr: 'A'.repeat(1024 * 1024) }, whole.folder.bearer(web))).code,
      8,
    );
  });

  it("none of them was signed, bound, or in anybody else's way", async () => {
    const { certificates } = (await whole.doors.admin.call('ListCertificates', { spiffe_id: own, page_size: 10 })) as {
      readonly certificates: readonly object[];
    };
    assert.deepEqual(certificates, []);
    const { bindings } = (await whole.doors.admin.call('ListBindings', { page_size: 10 })) as { readonly bindings: readonly object[] };
    assert.deepEqual(bindings, []);
    await othersAreUndisturbed();
    await bindKey(whole, web);
  });

  it('a life below nothing, or over the maximum, is refused; one over the tier is capped, and the answer says so', async () => {
    const bearer = whole.folder.bearer(web);
    const csr = createCsr(generateKeyPair(), []);
    assert.equal((await whole.doors.workload.refused('SignCertificate', { csr, ttl_seconds: -1 }, bearer)).reason, 'INVALID_ARGUMENT');
    assert.equal((await whole.doors.workload.refused('SignCertificate', { csr, ttl_seconds: 91 * 86_400 }, bearer)).reason, 'TTL_TOO_LONG');
    const given = (await whole.doors.workload.call('SignCertificate', { csr, ttl_seconds: 60 * 86_400 }, bearer)) as {
      readonly not_before: number;
      readonly not_after: number;
    };
    assert.ok(given.not_after * 1000 <= Date.now() + 86_400_000 + 1000, 'the standard tier is a day');
  });
});

function be16(value: number): [number, number] {
  return [(value >> 8) & 0xff, value & 0xff];
}
