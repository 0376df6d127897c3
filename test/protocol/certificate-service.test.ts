import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { certificateService } from '../../src/api/certificate-service.ts';
import type { JwtSvidApi } from '../../src/api/certificate-service.ts';
import { SignetError } from '../../src/base/errors.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { apiWorld } from '../support/api-world.ts';
import type { ApiWorld } from '../support/api-world.ts';
import { grpcCaller } from '../support/grpc-caller.ts';
import type { GrpcCaller } from '../support/grpc-caller.ts';

const spiffeId = 'spiffe://test.example/ns/shop/sa/web';
const web = { authorization: 'Bearer web' };

interface SignedResponse {
  readonly chain: readonly Buffer[];
  readonly anchors: readonly Buffer[];
  readonly serial: string;
  readonly not_before: number;
  readonly not_after: number;
  readonly spiffe_id: string;
  readonly trust_generation: number;
}

/** JWT-SVIDs have a story of their own, with a whole server. */
const noJwt: JwtSvidApi = {
  issue: () => Promise.reject(new SignetError('UNIMPLEMENTED', 'not here')),
  bundles: () => Promise.reject(new SignetError('UNIMPLEMENTED', 'not here')),
};

let world: ApiWorld;
let workload: GrpcCaller;

before(async () => {
  world = await apiWorld();
  const address = await world.serve((server) => {
    certificateService({
      log: world.issuing.log,
      timeoutMs: 1000,
      authenticate: world.authenticate,
      audiences: ['signet'],
      sign: world.issuing.issuer.issue,
      bind: world.issuing.bindings.bind,
      jwt: noJwt,
      bundle: world.issuing.trust.current,
      signIntermediate: () => Promise.reject(new SignetError('UNIMPLEMENTED', 'not here')),
    }).register(server);
  });
  workload = grpcCaller({ address, file: 'signet/v1/certificate_service.proto', service: 'signet.v1.CertificateService' });
});
after(async () => {
  workload.close();
  await world[Symbol.asyncDispose]();
});

describe('SignCertificate', () => {
  it('answers with the chain, the anchors and what was really given', async () => {
    const key = generateKeyPair();
    const signed = (await workload.call('SignCertificate', { csr: createCsr(key, []), ttl_seconds: 3600 }, web)) as SignedResponse;
    const [leaf, intermediate] = signed.chain.map((der) => new X509Certificate(der));
    const root = new X509Certificate(signed.anchors[0] ?? Buffer.alloc(0));
    assert.ok(leaf && intermediate && leaf.checkIssued(intermediate) && intermediate.checkIssued(root));
    assert.ok(leaf.publicKey.export({ type: 'spki', format: 'der' }).equals(key.spki));
    assert.equal(leaf.subjectAltName, `URI:${spiffeId}`);
    assert.equal(signed.spiffe_id, spiffeId);
    assert.equal(signed.serial, leaf.serialNumber.toLowerCase());
    assert.equal(signed.not_before * 1000, leaf.validFromDate.getTime());
    assert.equal(signed.not_after * 1000, leaf.validToDate.getTime());
    assert.equal(signed.trust_generation, world.issuing.trust.current().generation);
    assert.deepEqual(world.shown.at(-1)?.audiences, ['signet'], 'a token for Istio alone is none here');
  });

  it('never binds the key', async () => {
    await workload.call('SignCertificate', { csr: createCsr(generateKeyPair(), []) }, web);
    assert.equal((await world.issuing.bindings.list(10)).items.length, 0);
  });

  it("passes the client's own instance name on, as a hint", async () => {
    await workload.call('SignCertificate', { csr: createCsr(generateKeyPair(), []) }, { ...web, 'x-signet-instance': 'host-7' });
    assert.equal(world.shown.at(-1)?.instanceHint, 'host-7');
  });

  it('refuses a life below nothing, garbage, and one over the maximum, each by its code', async () => {
    const csr = createCsr(generateKeyPair(), []);
    assert.equal((await workload.refused('SignCertificate', { csr, ttl_seconds: -1 }, web)).reason, 'INVALID_ARGUMENT');
    assert.equal((await workload.refused('SignCertificate', { csr, ttl_seconds: 91 * 86_400 }, web)).reason, 'TTL_TOO_LONG');
    assert.equal((await workload.refused('SignCertificate', { csr: csr.subarray(0, 40) }, web)).reason, 'INVALID_CSR');
    assert.equal((await workload.refused('SignCertificate', { csr: Buffer.alloc(20_000) }, web)).code, 8);
  });
});

describe('BindKey', () => {
  it("binds the key to the caller's instance and says where its file must be", async () => {
    const key = generateKeyPair();
    const bound = await workload.call('BindKey', { csr: createCsr(key, []), key_directory: '/run/keys' }, web);
    assert.deepEqual(bound, {
      spiffe_id: spiffeId,
      instance: 'pod:web-0',
      key_file: `/run/keys/${key.spkiSha256}.key`,
      key_ends: Math.floor(world.issuing.clock.now() / 1000) + 30 * 86_400,
    });
  });

  it('is refused to a certificate, without an instance, and outside of the folders allowed', async () => {
    const request = { csr: createCsr(generateKeyPair(), []), key_directory: '/run/keys' };
    assert.equal((await workload.refused('BindKey', request, { authorization: 'Bearer by-certificate' })).reason, 'PERMISSION_DENIED');
    const nobody = await workload.refused('BindKey', request, { authorization: 'Bearer nobody' });
    assert.equal(nobody.reason, 'INSTANCE_REQUIRED');
    assert.match(nobody.details, /x-signet-instance/);
    assert.equal((await workload.refused('BindKey', { ...request, key_directory: '/run/keys/../../etc' }, web)).reason, 'INVALID_ARGUMENT');
    assert.equal((await workload.refused('BindKey', { ...request, key_directory: '/etc' }, web)).reason, 'INVALID_ARGUMENT');
  });
});

describe('what shows a caller', () => {
  const csr = createCsr(generateKeyPair(), []);
  const refusals: readonly { what: string; metadata: Record<string, string | readonly string[]> }[] = [
    { what: 'another scheme', metadata: { authorization: 'Basic d2ViOndlYg==' } },
    { what: 'nothing where a token belongs', metadata: { authorization: '' } },
    { what: 'two tokens in one', metadata: { authorization: 'Bearer web web' } },
    { what: 'two tokens with a comma', metadata: { authorization: 'Bearer web, Bearer web' } },
    { what: 'a token of 17 KiB', metadata: { authorization: `Bearer ${'a'.repeat(17 * 1024)}` } },
  ];
  for (const { what, metadata } of refusals) {
    it(`is not ${what}`, async () => {
      const seen = world.shown.length;
      const refusal = await workload.refused('SignCertificate', { csr }, metadata);
      assert.deepEqual([refusal.code, refusal.reason, refusal.details], [16, 'UNAUTHENTICATED', 'authentication failed']);
      assert.equal(world.shown.length, seen, 'it never came to the authenticator');
    });
  }
});

it('a client that goes away stops the work, and one line says so', async () => {
  const { authority, log } = world.issuing;
  authority.conduct = 'hang';
  const from = log.lines.length;
  const hasty = grpcCaller({
    address: await rebind(),
    file: 'signet/v1/certificate_service.proto',
    service: 'signet.v1.CertificateService',
    deadlineMs: 100,
  });
  assert.equal((await hasty.refused('SignCertificate', { csr: createCsr(generateKeyPair(), []) }, web)).code, 4);
  hasty.close();
  const { eventually } = await import('../support/eventually.ts');
  const gone = await eventually('a line in the log', () => {
    const lines = log.lines.slice(from).filter(({ message }) => message.startsWith('call refused: the client went away'));
    return lines.length > 0 ? lines : undefined;
  });
  assert.equal(gone.length, 1);
  authority.conduct = 'good';
});

async function rebind(): Promise<string> {
  return world.serve((server) => {
    certificateService({
      log: world.issuing.log,
      timeoutMs: 5000,
      authenticate: world.authenticate,
      audiences: ['signet'],
      sign: world.issuing.issuer.issue,
      bind: world.issuing.bindings.bind,
      jwt: noJwt,
      bundle: world.issuing.trust.current,
      signIntermediate: () => Promise.reject(new SignetError('UNIMPLEMENTED', 'not here')),
    }).register(server);
  });
}
