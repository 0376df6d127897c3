import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { verifyChain } from '../../src/x509/chain.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import type { GrpcCaller } from '../support/grpc-caller.ts';
import { certificateChannel, wholeServer } from '../support/whole-server.ts';
import type { Pod, WholeServer } from '../support/whole-server.ts';

/** The account of a Signet below this one; another one, which no rule names. */
const below: Pod = { namespace: 'signet', serviceAccount: 'signet' };
const stranger: Pod = { namespace: 'shop', serviceAccount: 'web' };
const day = 86_400_000;

async function refused(
  caller: GrpcCaller,
  request: object,
  metadata?: Readonly<Record<string, string>>,
): Promise<{ readonly code: number; readonly reason: string | undefined }> {
  const { code, reason } = await caller.refused('SignIntermediate', request, metadata);
  return { code, reason };
}

describe('SignIntermediate', () => {
  let whole: WholeServer;
  before(async () => {
    whole = await wholeServer({ policy: { downstream: [{ match: '/ns/signet/sa/signet', maxTtl: '10d' }] } });
  });
  after(() => whole[Symbol.asyncDispose]());

  const csrFor = (...names: readonly string[]): Buffer => createCsr(generateKeyPair(), names);
  const call = (request: object, pod: Pod = below) => whole.doors.workload.call('SignIntermediate', request, whole.folder.bearer(pod));

  it('certifies a CA for leaves of this trust domain, for whom policy names, and caps its life', async () => {
    const key = generateKeyPair();
    const csr = createCsr(key, ['spiffe://example.org']);
    const {
      chain,
      serial,
      not_after: notAfter,
    } = (await call({ csr, ttl_seconds: 365 * 86_400 })) as {
      readonly chain: readonly Buffer[];
      readonly serial: string;
      readonly not_after: number;
    };
    const [made] = chain.map(parseCertificate);
    assert.ok(made);
    assert.deepEqual([made.isCa, made.pathLength, made.uris, made.spkiSha256], [true, 0, ['spiffe://example.org'], key.spkiSha256]);
    assert.equal(made.serial, serial);
    assert.equal(made.notAfter, notAfter * 1000);
    assert.ok(made.notAfter <= Date.now() + 10 * day);
    const { anchors } = (await whole.doors.workload.call('GetX509Bundle', {}, whole.folder.bearer(below))) as {
      readonly anchors: readonly Buffer[];
    };
    verifyChain(chain, anchors, Date.now());
    const { certificates } = (await whole.doors.admin.call('ListCertificates', {
      spiffe_id: 'spiffe://example.org/ns/signet/sa/signet',
    })) as {
      readonly certificates: readonly { readonly serial: string; readonly key_mode: string }[];
    };
    assert.equal(certificates.find((one) => one.serial === serial)?.key_mode, 'intermediate');
  });

  it('is for nobody whom policy does not name, by token or by certificate', async () => {
    const csr = csrFor('spiffe://example.org');
    assert.deepEqual(await refused(whole.doors.workload, { csr }, whole.folder.bearer(stranger)), { code: 7, reason: 'PERMISSION_DENIED' });
    const byCertificate = whole.doors.workloadAs(await certificateChannel(whole, stranger));
    assert.deepEqual(await refused(byCertificate, { csr }), { code: 7, reason: 'PERMISSION_DENIED' });
  });

  for (const [what, names] of [
    ['no name', []],
    ['the name of a workload', ['spiffe://example.org/ns/shop/sa/web']],
    ['another trust domain', ['spiffe://other.org']],
    ['more than its trust domain', ['spiffe://example.org', 'spiffe://example.org/ns/shop/sa/web']],
  ] as const) {
    it(`refuses a request with ${what}`, async () => {
      assert.deepEqual(await refused(whole.doors.workload, { csr: csrFor(...names) }, whole.folder.bearer(below)), {
        code: 3,
        reason: 'INVALID_CSR',
      });
    });
  }

  it('gives nothing more to whom an operator has stopped', async () => {
    const id = 'spiffe://example.org/ns/signet/sa/signet';
    await whole.doors.admin.call('DenyIdentity', { spiffe_id: id, reason: 'test' });
    assert.deepEqual(await refused(whole.doors.workload, { csr: csrFor('spiffe://example.org') }, whole.folder.bearer(below)), {
      code: 7,
      reason: 'IDENTITY_DENIED',
    });
    await whole.doors.admin.call('LiftDenial', { spiffe_id: id });
  });
});
