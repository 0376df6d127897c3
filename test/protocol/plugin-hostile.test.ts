import assert from 'node:assert/strict';
import { randomBytes, sign as signBytes } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { der, octetString, oid, sequence } from '../../src/x509/der-writer.ts';
import { encodeExtension } from '../../src/x509/extensions.ts';
import { encodeDns, encodeIp, encodeUri, generalName } from '../../src/x509/general-names.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { extensionOid, tlsFeatureOid } from '../../src/x509/oids.ts';
import { createLeafIssuer } from '../../src/x509/leaf.ts';
import { eventually } from '../support/eventually.ts';
import { failureOf } from '../support/failure.ts';
import { fakeAuthority } from '../support/fake-authority.ts';
import type { FakeAuthority } from '../support/fake-authority.ts';
import { foreignKey, publicSpki, unknownExtension } from '../support/forge.ts';
import { forgeLeaf } from '../support/hostile-plugin.ts';
import type { Answer, LeafForgery, SignFields } from '../support/hostile-plugin.ts';
import { pluginWorld } from '../support/plugin-world.ts';
import type { PluginWorld } from '../support/plugin-world.ts';

const hour = 3_600_000;
const other = generateKeyPair();

let held: PluginWorld;
let stranger: FakeAuthority;
before(async () => {
  held = await pluginWorld({ signTimeoutMs: 500 });
  stranger = await fakeAuthority({ clock: held.world.clock, name: 'stranger' });
});
after(async () => {
  await held[Symbol.asyncDispose]();
});

/** The leaf that was asked for, but for the forgery, in front of the honest intermediate. */
function forged(forgery: (asked: SignFields) => LeafForgery): (asked: SignFields) => Promise<Answer> {
  return async (asked) => {
    const { issuing } = held.plugin.ca;
    return [[await forgeLeaf(issuing, asked, forgery(asked)), issuing.certificate]];
  };
}

const named = (...more: readonly Buffer[]) => forged(({ spiffeId }) => ({ names: [encodeUri(spiffeId), ...more] }));
const strangers = (asked: SignFields) => forgeLeaf(stranger.issuing, asked);
const issuing = (): Buffer => held.plugin.ca.issuing.certificate;

interface Lie {
  readonly what: string;
  readonly answer: (asked: SignFields) => Promise<Answer> | Answer;
  /** What the error log says of it. */
  readonly says: RegExp;
  readonly code?: string;
}

const lies: readonly Lie[] = [
  { what: 'another key', answer: forged(() => ({ spki: other.spki })), says: /it is for another key/ },
  { what: 'a weak key', answer: forged(() => ({ spki: publicSpki(foreignKey('rsa-1024')) })), says: /it is for another key/ },
  {
    what: "another workload's name",
    answer: forged(() => ({ names: [encodeUri('spiffe://test.example/ns/shop/sa/admin')] })),
    says: /it is for another name/,
  },
  {
    what: 'a name in another trust domain',
    answer: forged(() => ({ names: [encodeUri('spiffe://evil.example/ns/shop/sa/web')] })),
    says: /it is for another name/,
  },
  {
    what: 'its name in other letters',
    answer: forged(({ spiffeId }) => ({ names: [encodeUri(spiffeId.replace('web', 'WEB'))] })),
    says: /it is for another name/,
  },
  { what: 'no name', answer: forged(() => ({ names: [encodeDns('web.shop')] })), says: /exactly one URI/ },
  { what: 'one more URI', answer: named(encodeUri('spiffe://test.example/ns/shop/sa/admin')), says: /exactly one URI/ },
  { what: 'a DNS name as well', answer: named(encodeDns('bank.example')), says: /more names than were asked for/ },
  { what: 'an IP address as well', answer: named(encodeIp('10.0.0.7')), says: /more names than were asked for/ },
  {
    what: 'an email address as well',
    answer: named(der(generalName.email, Buffer.from('root@bank.example'))),
    says: /more names than were asked for/,
  },
  { what: 'a CA', answer: forged(() => ({ isCa: true })), says: /it is a CA certificate/ },
  {
    what: 'the key usage of a CA',
    answer: forged(() => ({ keyUsage: ['digitalSignature', 'keyCertSign'] })),
    says: /key usage is that of a CA/,
  },
  {
    what: 'a key usage that can do no TLS',
    answer: forged(() => ({ keyUsage: ['keyEncipherment'] })),
    says: /key usage is not digitalSignature/,
  },
  {
    what: 'a certificate for clients alone',
    answer: forged(() => ({ extendedKeyUsage: ['clientAuth'] })),
    says: /does not allow TLS servers and clients/,
  },
  {
    what: 'a certificate for servers alone',
    answer: forged(() => ({ extendedKeyUsage: ['serverAuth'] })),
    says: /does not allow TLS servers and clients/,
  },
  {
    what: 'a longer life',
    answer: forged(({ notAfter }) => ({ notAfter: notAfter * 1000 + 1000 })),
    says: /it lives longer than was asked for/,
  },
  { what: 'a beginning to come', answer: forged(() => ({ notBefore: held.world.clock.now() + 60_000 })), says: /it is not valid yet/ },
  { what: 'an end that was', answer: forged(() => ({ notAfter: held.world.clock.now() - 1000 })), says: /it has expired/ },
  {
    what: 'an extension twice',
    answer: forged(() => ({ more: [unknownExtension(false), unknownExtension(false)] })),
    says: /an extension twice/,
  },
  {
    what: 'its names twice, the second time others',
    answer: forged(() => ({ more: [encodeExtension(extensionOid.subjectAltName, true, sequence(encodeDns('bank.example')))] })),
    says: /an extension twice/,
  },
  {
    what: 'a critical extension that nobody knows',
    answer: forged(() => ({ more: [unknownExtension(true)] })),
    says: /critical extension that is not understood/,
  },
  {
    what: 'a wish for stapling',
    answer: forged(() => ({ more: [encodeExtension(tlsFeatureOid, false, sequence(der(0x02, Buffer.of(5))))] })),
    says: /stapled OCSP/,
  },
  {
    what: 'a signature with SHA-1',
    answer: forged(() => ({
      signature: {
        algorithm: sequence(oid('2a8648ce3d0401')),
        sign: (tbs) => signBytes('sha1', tbs, other.privateKey),
      },
    })),
    says: /ECDSA with SHA-1 are not accepted/,
  },
  {
    what: "a signature by another key than its issuer's",
    answer: forged(() => ({
      signature: { algorithm: sequence(oid('2a8648ce3d040302')), sign: (tbs) => signBytes('sha256', tbs, other.privateKey) },
    })),
    says: /its signature is not by/,
  },
  { what: "a stranger's leaf", answer: async (asked) => [[await strangers(asked)]], says: /does not chain to a trusted root/ },
  {
    what: "a stranger's leaf below the honest intermediate",
    answer: async (asked) => [[await strangers(asked), issuing()]],
    says: /its issuer is not/,
  },
  {
    what: "a stranger's chain with its own root smuggled in",
    answer: async (asked) => [[await strangers(asked), stranger.issuing.certificate, stranger.root]],
    says: /does not chain to a trusted root/,
  },
  {
    what: 'a leaf without its intermediate',
    answer: async (asked) => [(await held.plugin.honest(asked)).slice(0, 1)],
    says: /does not chain to a trusted root/,
  },
  {
    what: 'the intermediate instead of a leaf',
    answer: () => [[issuing(), held.plugin.ca.root]],
    says: /it is a CA certificate/,
  },
  {
    what: 'a chain upside down',
    answer: async (asked) => [[...(await held.plugin.honest(asked))].reverse()],
    says: /it is a CA certificate/,
  },
  { what: 'an empty chain', answer: () => [[]], says: /broke the protocol.*chain/ },
  { what: 'nothing at all', answer: () => [], says: /broke the protocol.*No message received/ },
  { what: 'an empty certificate', answer: () => [[Buffer.alloc(0)]], says: /broke the protocol.*chain\.0/ },
  { what: 'garbage', answer: () => [[Buffer.from('not a certificate')]], says: /broke the protocol.*not an acceptable certificate/ },
  {
    what: 'garbage as an intermediate',
    answer: async (asked) => [[...(await held.plugin.honest(asked)).slice(0, 1), randomBytes(600)]],
    says: /not an acceptable certificate/,
  },
  {
    what: 'octets behind the certificate',
    answer: async (asked) => {
      const [leaf = Buffer.alloc(0), ...rest] = await held.plugin.honest(asked);
      return [[Buffer.concat([leaf, Buffer.from('more')]), ...rest]];
    },
    says: /not an acceptable certificate/,
  },
  {
    what: 'a certificate of 40 KB',
    answer: forged(() => ({ more: [encodeExtension('2b0601040182371502', false, octetString(randomBytes(40_000)))] })),
    says: /broke the protocol.*32768 bytes/,
  },
  {
    what: 'a chain of eleven',
    answer: async (asked) => [[...(await held.plugin.honest(asked)), ...Array.from({ length: 9 }, issuing)]],
    says: /broke the protocol.*more than 10/,
  },
  {
    what: '10 MB',
    answer: () => [Array.from({ length: 320 }, () => randomBytes(32 * 1024))],
    says: /broke the protocol.*larger than max/,
  },
  {
    what: 'two answers',
    answer: async (asked) => [await held.plugin.honest(asked), [await strangers(asked), stranger.issuing.certificate]],
    says: /broke the protocol.*Too many responses/,
  },
  {
    what: 'the same answer twice',
    answer: async (asked) => {
      const chain = await held.plugin.honest(asked);
      return [chain, chain];
    },
    says: /broke the protocol.*Too many responses/,
  },
  {
    what: 'nothing, for ever',
    answer: () => new Promise<never>(() => undefined),
    says: /the plugin did not answer in time/,
    code: 'AUTHORITY_UNAVAILABLE',
  },
];

describe('a hostile plugin', () => {
  for (const { what, answer, says, code = 'AUTHORITY_MISBEHAVED' } of lies) {
    it(`that answers with ${what}: not published, not on record, named in the log`, async () => {
      held.plugin.answer = answer;
      const before = held.errors().length;
      const error = await failureOf(held.issue());
      assert.equal(error.code, code, error.message);
      await eventually(`the log says ${String(says)}`, () => (says.test(held.errors().slice(before)) ? true : undefined), 5000, 5);
      assert.equal(await held.onRecord(), 0);
      assert.equal(held.issuer.readiness().ready, true, held.issuer.readiness().detail);
    });
  }

  it('is trusted no less for it: what it then does right is published', async () => {
    held.plugin.answer = undefined;
    const { chain } = await held.issue();
    assert.equal(chain.certificates.length, 2);
    assert.equal(await held.onRecord(), 1);
  });
});

describe('a hostile plugin with a memory', () => {
  it("that returns somebody else's earlier certificate, an earlier one of the same workload, or one that it gave before for the same key", async () => {
    await using replayed = await pluginWorld();
    const kept = new Map<string, readonly Buffer[]>();
    replayed.plugin.answer = async (asked) => {
      const chain = await replayed.plugin.honest(asked);
      kept.set(asked.spiffeId, chain);
      return [chain];
    };
    const key = generateKeyPair();
    await replayed.issue('admin');
    await replayed.issue('web', key);
    const byName = (account: string): readonly Buffer[] => kept.get(`spiffe://test.example/ns/shop/sa/${account}`) ?? [];
    const [admins, webs] = [byName('admin'), byName('web')];

    replayed.plugin.answer = () => [admins];
    assert.match((await failureOf(replayed.issue('web'))).message, /it is for another key/);
    replayed.plugin.answer = () => [webs];
    assert.match((await failureOf(replayed.issue('web'))).message, /it is for another key/);
    // It is for this key and this name: only the record tells.
    const twice = await failureOf(replayed.issue('web', key));
    assert.equal(twice.code, 'AUTHORITY_MISBEHAVED', twice.message);
    assert.match(replayed.errors(), /serial/);
    assert.equal(replayed.issuer.readiness().ready, true);
    assert.equal(await replayed.onRecord(), 2);
  });

  it('that crashes with a request in its hands: nothing is published, and it is used again when it is back', async () => {
    await using crashing = await pluginWorld();
    crashing.plugin.answer = async () => {
      crashing.plugin.stop();
      await crashing.plugin.start();
      return new Promise<never>(() => undefined);
    };
    assert.equal((await failureOf(crashing.issue())).code, 'AUTHORITY_UNAVAILABLE');
    assert.equal(await crashing.onRecord(), 0);
    crashing.plugin.answer = undefined;
    await eventually('it signs again', () => crashing.issue());
    assert.equal(await crashing.onRecord(), 1);
  });
});

describe('whatever a plugin makes of a certificate', () => {
  it('is refused if one octet of it is another', async () => {
    await using mutated = await pluginWorld();
    await fc.assert(
      fc.asyncProperty(
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        fc.integer({ min: 1, max: 255 }),
        fc.boolean(),
        async (where, flip, above) => {
          let damaged: Buffer | undefined;
          mutated.plugin.answer = async (asked) => {
            const chain = (await mutated.plugin.honest(asked)).map((certificate) => Buffer.from(certificate));
            damaged = chain[above ? 1 : 0];
            assert.ok(damaged);
            const at = Math.floor(where * damaged.length);
            damaged[at] = (damaged[at] ?? 0) ^ flip;
            return [chain];
          };
          assert.equal((await failureOf(mutated.issue())).code, 'AUTHORITY_MISBEHAVED');
        },
      ),
      { numRuns: 300 },
    );
    assert.equal(await mutated.onRecord(), 0);
  });

  it('is taken if each part of it is right, and only then', async () => {
    await using built = await pluginWorld();
    const { plugin } = built;
    const leaves = createLeafIssuer(plugin.ca.issuing);
    const deed = fc.record({
      key: fc.constantFrom<'own' | 'other'>('own', 'own', 'own', 'other'),
      uris: fc.constantFrom<'own' | 'other' | 'both' | 'none'>('own', 'own', 'own', 'other', 'both', 'none'),
      dns: fc.constantFrom(false, false, true),
      isCa: fc.constantFrom(false, false, false, true),
      usage: fc.subarray(['serverAuth', 'clientAuth'] as const, { minLength: 1 }),
      lateMs: fc.constantFrom(0, 0, -1000, -hour, 1000, hour),
      earlyMs: fc.constantFrom(0, 0, -1000, -hour, 2 * hour),
      issuer: fc.constantFrom<'own' | 'stranger'>('own', 'own', 'own', 'stranger'),
      intermediate: fc.constantFrom<'own' | 'stranger' | 'none'>('own', 'own', 'own', 'stranger', 'none'),
    });
    let taken = 0;
    await fc.assert(
      fc.asyncProperty(deed, async (one) => {
        plugin.answer = async (asked) => {
          const otherName = encodeUri('spiffe://test.example/ns/shop/sa/admin');
          const uris = { own: [encodeUri(asked.spiffeId)], other: [otherName], both: [encodeUri(asked.spiffeId), otherName], none: [] };
          const names = [...uris[one.uris], ...(one.dns ? [encodeDns('bank.example')] : [])];
          const leaf = await forgeLeaf((one.issuer === 'own' ? plugin.ca : stranger).issuing, asked, {
            ...(one.key === 'own' ? {} : { spki: other.spki }),
            names: names.length === 0 ? [encodeIp('10.0.0.7')] : names,
            isCa: one.isCa,
            extendedKeyUsage: one.usage,
            notBefore: asked.notBefore * 1000 + one.earlyMs,
            notAfter: asked.notAfter * 1000 + one.lateMs,
          });
          const chains = { own: [plugin.ca.issuing.certificate], stranger: [stranger.issuing.certificate], none: [] };
          return [[leaf, ...chains[one.intermediate]]];
        };
        const right =
          one.key === 'own' &&
          one.uris === 'own' &&
          !one.dns &&
          !one.isCa &&
          one.usage.length === 2 &&
          one.lateMs <= 0 &&
          one.earlyMs <= 0 &&
          one.issuer === 'own' &&
          one.intermediate === 'own';
        if (right) {
          taken++;
          assert.equal((await built.issue()).record.issuerKeyId, leaves.keyId);
        } else assert.equal((await failureOf(built.issue())).code, 'AUTHORITY_MISBEHAVED', JSON.stringify(one));
      }),
      {
        numRuns: 300,
        // A right one is rare by chance, and must be among them.
        examples: [
          [
            {
              key: 'own',
              uris: 'own',
              dns: false,
              isCa: false,
              usage: ['serverAuth', 'clientAuth'],
              lateMs: -hour,
              earlyMs: -hour,
              issuer: 'own',
              intermediate: 'own',
            },
          ],
        ],
      },
    );
    assert.ok(taken > 0);
    assert.equal(await built.onRecord(), taken);
  });
});
