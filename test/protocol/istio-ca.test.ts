import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { createImpersonation } from '../../src/api/impersonation.ts';
import { istioCaService } from '../../src/api/istio-ca.ts';
import { parseTrustDomain } from '../../src/spiffe/id.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { pemEncode } from '../../src/x509/pem.ts';
import { fakePodsOnNode } from '../support/fake-pods-on-node.ts';
import { apiWorld } from '../support/api-world.ts';
import type { ApiWorld } from '../support/api-world.ts';
import { grpcCaller } from '../support/grpc-caller.ts';
import type { GrpcCaller } from '../support/grpc-caller.ts';

const spiffeId = 'spiffe://test.example/ns/shop/sa/web';
const web = { authorization: 'Bearer web' };
const day = 86_400;

function csrPem(uris: readonly string[] = [spiffeId]): string {
  return pemEncode('CERTIFICATE REQUEST', createCsr(generateKeyPair(), uris));
}

/** google.protobuf.Struct as proto-loader encodes it. */
function struct(fields: Readonly<Record<string, string>>): object {
  return { fields: Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, { stringValue: value, string_value: value }])) };
}

const beside = 'spiffe://test.example/ns/shop/sa/beside';
const pods = fakePodsOnNode('node-1', [beside]);
let world: ApiWorld;
let istio: GrpcCaller;

before(async () => {
  world = await apiWorld();
  // One root to begin with: the second backend's has no part in these stories.
  await world.issuing.trust.retainSources(['ca:fake']);
  const address = await world.serve((server) => {
    istioCaService({
      log: world.issuing.log,
      timeoutMs: 1000,
      authenticate: world.authenticate,
      audiences: ['signet', 'istio-ca'],
      sign: world.issuing.issuer.issue,
      hasAuthority: (name) => name === 'fake' || name === 'other',
      impersonation: createImpersonation({
        trustDomain: parseTrustDomain('test.example'),
        nodeAccounts: () => new Set(['/ns/shop/sa/node-proxy']),
        podsOf: () => pods,
        mayMake: () => true,
        allowed: world.issuing.policy.grant,
        append: world.issuing.recorder.audit,
        clock: world.issuing.clock,
      }),
    }).register(server);
  });
  istio = grpcCaller({ address, file: 'istio/v1/auth/ca.proto', service: 'istio.v1.auth.IstioCertificateService' });
});
after(async () => {
  istio.close();
  await world[Symbol.asyncDispose]();
});

async function create(request: object, metadata: Readonly<Record<string, string>> = web): Promise<readonly string[]> {
  return ((await istio.call('CreateCertificate', request, metadata)) as { readonly cert_chain: readonly string[] }).cert_chain;
}

describe('a chain as Istio wants it', () => {
  it('is leaf, intermediate, root: one PEM each, a newline at each end', async () => {
    const chain = await create({ csr: csrPem(), validity_duration: day });
    assert.equal(chain.length, 3);
    for (const pem of chain) {
      assert.match(pem, /^-----BEGIN CERTIFICATE-----\n[^-]+-----END CERTIFICATE-----\n$/);
    }
    const [leaf, intermediate, root] = chain.map((pem) => new X509Certificate(pem));
    assert.ok(leaf && intermediate && root);
    assert.equal(leaf.subjectAltName, `URI:${spiffeId}`);
    assert.ok(leaf.checkIssued(intermediate) && intermediate.checkIssued(root) && root.checkIssued(root));
    assert.ok(await world.issuing.store.issued.get(leaf.serialNumber.toLowerCase()), 'it is on record before it is shown');
  });

  it('has every root of the bundle in its last element', async () => {
    const { generateKeyPair: pair } = await import('../../src/x509/keys.ts');
    const { createRootCertificate } = await import('../../src/x509/ca-certificate.ts');
    const now = world.issuing.clock.now();
    const second = createRootCertificate({
      key: pair(),
      commonName: 'second',
      organization: 'Test',
      notBefore: now - day * 1000,
      notAfter: now + day * 1000,
    });
    await world.issuing.trust.setSource('file:second', [second]);
    const chain = await create({ csr: csrPem() });
    assert.equal(chain.length, 3);
    assert.equal(chain[2]?.match(/BEGIN CERTIFICATE/g)?.length, 2);
  });

  it('lasts as long as asked for, or the default for nothing and less than nothing; more than the tier is capped', async () => {
    const lifeOf = async (seconds: number): Promise<number> => {
      const leaf = new X509Certificate((await create({ csr: csrPem(), validity_duration: seconds }))[0] ?? '');
      return (leaf.validToDate.getTime() - world.issuing.clock.now()) / 1000;
    };
    assert.ok((await lifeOf(3600)) <= 3600);
    for (const seconds of [0, -5, 2 * day]) {
      const life = await lifeOf(seconds);
      assert.ok(life > 0.7 * day && life <= day, `${String(seconds)} gave ${String(life)}`);
    }
  });

  it('is given for a request without names too, as istio-agent and others send it', async () => {
    assert.equal((await create({ csr: csrPem([]) })).length, 3);
  });

  it('takes the token in any of the ways that clients send it, and the audience istio-ca', async () => {
    for (const authorization of ['Bearer web', 'bearer web', 'BEARER  web', 'web']) await create({ csr: csrPem() }, { authorization });
    assert.deepEqual(world.shown.at(-1)?.audiences, ['signet', 'istio-ca']);
    assert.equal(world.shown.at(-1)?.token, 'web');
  });
});

describe('a refusal', () => {
  const cases: readonly {
    what: string;
    request: () => object;
    metadata?: Record<string, string>;
    code: number;
    reason: string;
    says?: RegExp;
  }[] = [
    {
      what: 'no credential',
      request: () => ({ csr: csrPem() }),
      metadata: {},
      code: 16,
      reason: 'UNAUTHENTICATED',
      says: /^authentication failed$/,
    },
    {
      what: 'a bad token, opaquely',
      request: () => ({ csr: csrPem() }),
      metadata: { authorization: 'Bearer x' },
      code: 16,
      reason: 'UNAUTHENTICATED',
      says: /^authentication failed$/,
    },
    {
      what: 'an expired token, saying when',
      request: () => ({ csr: csrPem() }),
      metadata: { authorization: 'Bearer old' },
      code: 16,
      reason: 'TOKEN_EXPIRED',
      says: /2026/,
    },
    {
      what: "keys that can't be had: worth a retry",
      request: () => ({ csr: csrPem() }),
      metadata: { authorization: 'Bearer away' },
      code: 14,
      reason: 'IDENTITY_SOURCE_UNAVAILABLE',
    },
    {
      what: 'impersonation, opaquely',
      request: () => ({ csr: csrPem(), metadata: struct({ ImpersonatedIdentity: 'spiffe://test.example/ns/a/sa/b' }) }),
      code: 16,
      reason: 'UNAUTHENTICATED',
      says: /^authentication failed$/,
    },
    { what: 'no CSR', request: () => ({}), code: 3, reason: 'INVALID_CSR' },
    {
      what: 'garbage',
      request: () => ({ csr: '-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n' }),
      code: 3,
      reason: 'INVALID_CSR',
    },
    {
      what: "another's name",
      request: () => ({ csr: csrPem(['spiffe://test.example/ns/shop/sa/other']) }),
      code: 3,
      reason: 'INVALID_CSR',
    },
    {
      what: 'two names in one',
      request: () => ({ csr: csrPem([`${spiffeId},spiffe://test.example/ns/shop/sa/other`]) }),
      code: 3,
      reason: 'INVALID_CSR',
    },
    { what: 'a life over 90 days', request: () => ({ csr: csrPem(), validity_duration: 91 * day }), code: 3, reason: 'TTL_TOO_LONG' },
    {
      what: 'the longest life that there is',
      request: () => ({ csr: csrPem(), validity_duration: Number.MAX_SAFE_INTEGER }),
      code: 3,
      reason: 'TTL_TOO_LONG',
    },
    {
      what: 'a backend that is not there',
      request: () => ({ csr: csrPem(), metadata: struct({ CertSigner: 'vault' }) }),
      code: 3,
      reason: 'INVALID_ARGUMENT',
    },
    {
      what: 'a backend that policy gives to others',
      request: () => ({ csr: csrPem(), metadata: struct({ CertSigner: 'other' }) }),
      code: 7,
      reason: 'PERMISSION_DENIED',
    },
    {
      what: 'a backend in something else than a text',
      request: () => ({ csr: csrPem(), metadata: { fields: { CertSigner: { numberValue: 1 } } } }),
      code: 3,
      reason: 'INVALID_ARGUMENT',
      says: /CertSigner must be a string/,
    },
    {
      what: 'metadata that is larger than anybody needs, before it is decoded',
      request: () => ({ csr: csrPem(), metadata: struct({ Other: 'x'.repeat(5000) }) }),
      code: 3,
      reason: 'TOO_LARGE',
      says: /metadata has 50\d\d bytes/,
    },
    {
      what: 'a CSR that is larger than any, which a client must not ask again',
      request: () => ({ csr: 'x'.repeat(20_000) }),
      code: 3,
      reason: 'TOO_LARGE',
      says: /csr has 20000 bytes/,
    },
    { what: 'a CSR of a megabyte', request: () => ({ csr: 'x'.repeat(1024 * 1024) }), code: 8, reason: '' },
  ];
  for (const { what, request, metadata, code, reason, says } of cases) {
    it(`of ${what}`, async () => {
      const refusal = await istio.refused('CreateCertificate', request(), metadata ?? web);
      assert.equal(refusal.code, code, refusal.details);
      // What gRPC refuses by itself, before us, has no reason of ours.
      if (reason !== '') {
        assert.equal(refusal.reason, reason);
        assert.equal(refusal.domain, 'signet.dev');
      }
      if (says) assert.match(refusal.details, says);
    });
  }

  it('names the right backend all the same', async () => {
    assert.equal((await create({ csr: csrPem(), metadata: struct({ CertSigner: 'fake', Other: 'ignored' }) })).length, 3);
  });

  it('never of a backend that policy lets this identity pick, nor of an empty name, as istio-agent sends it always', async () => {
    const picky = 'spiffe://test.example/ns/shop/sa/picky';
    const signer = async (name: string): Promise<string> => {
      const request = { csr: csrPem([picky]), metadata: struct({ CertSigner: name }) };
      const [leaf = ''] = await create(request, { authorization: 'Bearer picky' });
      return (await world.issuing.store.issued.get(new X509Certificate(leaf).serialNumber.toLowerCase()))?.authority ?? '';
    };
    // The roots of both are published by now: what is handed out must chain to one.
    await world.issuing.trust.setSource('ca:other', [world.issuing.otherAuthority.root]);
    assert.equal(await signer('other'), 'other');
    assert.equal(await signer('fake'), 'fake');
    assert.equal(await signer(''), 'fake');
    await world.issuing.trust.retainSources(['ca:fake']);
  });

  it('of a CA that fails or hangs is one that agents retry; what broke stays in the log', async () => {
    const { authority, log } = world.issuing;
    authority.conduct = 'throw';
    const thrown = await istio.refused('CreateCertificate', { csr: csrPem() }, web);
    assert.equal(thrown.code, 13);
    assert.doesNotMatch(thrown.details, /ECONNRESET|10\.0\.0\.7/);
    assert.match(JSON.stringify(log.lines.map(({ fields }) => Object.values(fields).map(causes))), /ECONNRESET/);
    authority.conduct = 'fail';
    assert.equal((await istio.refused('CreateCertificate', { csr: csrPem() }, web)).code, 13);
    authority.conduct = 'hang';
    assert.equal((await istio.refused('CreateCertificate', { csr: csrPem() }, web)).code, 4);
    authority.conduct = 'good';
    await create({ csr: csrPem() });
  });

  it('of somebody whom an operator stopped', async () => {
    world.issuing.denied.add(spiffeId);
    assert.equal((await istio.refused('CreateCertificate', { csr: csrPem() }, web)).reason, 'IDENTITY_DENIED');
    world.issuing.denied.clear();
  });

  it('is logged once, with its reason and never with the token', async () => {
    const { log } = world.issuing;
    const from = log.lines.length;
    await istio.refused('CreateCertificate', { csr: csrPem() }, { authorization: 'Bearer very-secret' });
    const lines = log.lines.slice(from);
    assert.equal(lines.length, 1);
    assert.match(causes(Object.values(lines[0]?.fields ?? {}).find((value) => value instanceof Error)), /the reason is for the log/);
    assert.doesNotMatch(JSON.stringify(lines), /very-secret/);
  });
});

describe('a node proxy', () => {
  const node = { authorization: 'Bearer node', clusterid: 'Kubernetes' };
  const asks = (identity: string): object => ({ csr: csrPem([identity]), metadata: struct({ ImpersonatedIdentity: identity }) });

  it('gets the certificate of a pod on its node, on record under that identity and audited with both', async () => {
    const [leaf = ''] = await create(asks(beside), node);
    const certificate = new X509Certificate(leaf);
    assert.equal(certificate.subjectAltName, `URI:${beside}`);
    const record = await world.issuing.store.issued.get(certificate.serialNumber.toLowerCase());
    assert.equal(record?.spiffeId, beside);
    assert.equal(record.instance, 'pod:node-1');
    assert.equal(record.tokenSeenAt, 0);
    const { items } = await world.issuing.store.audit.list(10);
    const entry = items.find(({ action }) => action === 'certificate.impersonate');
    assert.equal(entry?.actor, 'spiffe://test.example/ns/shop/sa/node-proxy');
    assert.equal(entry.subject, beside);
    assert.match(entry.detail, new RegExp(certificate.serialNumber, 'i'));
  });

  it('gets its own certificate as anybody does, and with an empty name too', async () => {
    const own = 'spiffe://test.example/ns/shop/sa/node-proxy';
    await create({ csr: csrPem([own]), metadata: struct({ ImpersonatedIdentity: '' }) }, node);
  });

  it("can't have its own name in a certificate that it asks for in another's", async () => {
    const request = { csr: csrPem(['spiffe://test.example/ns/shop/sa/node-proxy']), metadata: struct({ ImpersonatedIdentity: beside }) };
    assert.equal((await istio.refused('CreateCertificate', request, node)).reason, 'INVALID_CSR');
  });

  it('is refused for a pod elsewhere, with no reason but in the log', async () => {
    const from = world.issuing.log.lines.length;
    const refusal = await istio.refused('CreateCertificate', asks('spiffe://test.example/ns/shop/sa/elsewhere'), node);
    assert.equal(refusal.code, 16);
    assert.equal(refusal.details, 'authentication failed');
    const fields: Readonly<Record<string, unknown>> = { ...world.issuing.log.lines.slice(from)[0]?.fields };
    assert.match(causes(fields['err']), /no such pod runs there/);
    assert.equal(fields['cluster'], 'Kubernetes');
    assert.equal(fields['impersonated'], 'spiffe://test.example/ns/shop/sa/elsewhere');
  });

  it('may retry while nothing can tell where pods run', async () => {
    pods.conduct = 'away';
    assert.equal((await istio.refused('CreateCertificate', asks(beside), node)).code, 14);
    pods.conduct = 'good';
  });

  it('for an identity that an operator stopped gets nothing', async () => {
    world.issuing.denied.add(beside);
    assert.equal((await istio.refused('CreateCertificate', asks(beside), node)).reason, 'IDENTITY_DENIED');
    world.issuing.denied.clear();
  });
});

function causes(value: unknown): string {
  return value instanceof Error ? `${value.message} ${causes(value.cause)}` : '';
}
