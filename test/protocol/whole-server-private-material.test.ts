import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { findPrivateKey } from '../support/key-detector.ts';
import type { RawSdsClient, Received } from '../support/raw-sds-client.ts';
import { identityIn } from '../support/received-identity.ts';
import type { ReceivedIdentity } from '../support/received-identity.ts';
import { bindKey, firstPod, idOf, madeWeb, secondPod, web, wholeServer } from '../support/whole-server.ts';
import type { Pod, WholeServer } from '../support/whole-server.ts';

/**
 * The first one's private material: a key that the server made for it. Others of every kind then try for it, by every
 * name that they can think of, and whatever they receive is searched for the key.
 */
const victim = madeWeb;
const victimId = idOf(victim);

let whole: WholeServer;
let first: ReceivedIdentity & { readonly key: string };
let instance: string;

before(async () => {
  whole = await wholeServer();
  const received = await firstResponse(whole.doors.sds(), victim, ['default']);
  const { key, ...identity } = identityIn(received);
  assert.ok(key, 'the server makes the key of this identity');
  first = { ...identity, key };
  assert.deepEqual([...findPrivateKey([received.bytes], key)].includes('label'), true, 'the detector fires where the key is');
  const { certificates } = (await whole.doors.admin.call('ListCertificates', { spiffe_id: victimId, page_size: 1 })) as {
    readonly certificates: readonly { readonly instance: string }[];
  };
  instance = certificates[0]?.instance ?? '';
  assert.equal(instance, `pod:${firstPod}`);
});
after(() => whole[Symbol.asyncDispose]());

async function firstResponse(client: RawSdsClient, pod: Pod, names: readonly string[]): Promise<Received> {
  const stream = client.stream('sotw', whole.folder.bearer(pod));
  stream.send({ resource_names: names });
  return stream.next();
}

/** Of whom the name could be, were it matched by anything but its whole. */
function names(): string[] {
  const path = victimId.slice('spiffe://example.org'.length);
  const digits = instance.slice('pod:'.length);
  return [
    victimId,
    `${victimId}/`,
    `${victimId}#`,
    `${victimId}?instance=${instance}`,
    `${victimId} ${instance}`,
    `${victimId}/${instance}`,
    `${victimId}\0`,
    `\0${victimId}`,
    `default\0${victimId}`,
    `default/../${victimId}`,
    victimId.toUpperCase(),
    victimId.replace('spiffe', 'SPIFFE'),
    victimId.replace('/web', '/Web'),
    victimId.replace('example.org', 'EXAMPLE.ORG'),
    victimId.replace('web', 'w\u0435b'),
    victimId.replace('web', 'ｗｅｂ'),
    victimId.replace('web', 'we\u00adb'),
    victimId.replace('web', '*'),
    victimId.replaceAll('/', '%2F'),
    victimId.replace('spiffe://', 'spiffe:///'),
    victimId.replace('/ns/', '/ns/./'),
    victimId.replace('/ns/', '/ns/shop/../'),
    path,
    path.slice(1),
    `../${path}`,
    `file://${whole.folder.data}/signet.db`,
    `${whole.folder.data}/signet.db`,
    '/etc/passwd',
    'system:serviceaccount:made:web',
    instance,
    digits,
    `default:${instance}`,
    `identity:${instance}`,
    first.leaf.serial,
    first.leaf.spkiSha256,
    `${first.leaf.spkiSha256}.key`,
    'Default',
    'DEFAULT',
    'default ',
    ' default',
    'dеfault',
    'ALL',
    'inbound',
    `outbound:${path}`,
    'tickets',
    '*',
    '**',
    '',
    '.',
    '..',
    '__proto__',
    'constructor',
    'toString',
    '\u202edefault',
    '\ufeffdefault',
    '\ud83d\udd11',
    "' OR 1=1 --",
    'null',
    'undefined',
    'x'.repeat(2000),
  ];
}

interface Other {
  readonly who: string;
  readonly pod: Pod;
  readonly metadata: () => Readonly<Record<string, string>>;
  /** Its own certificate with a key made for it, no certificate at all, or no stream. */
  readonly gets: 'own' | 'none' | 'refused';
}

function others(): Other[] {
  const made = { namespace: 'made', serviceAccount: 'other', uid: secondPod };
  const neighbour = { ...victim, uid: secondPod };
  const withoutPod = { 'kubernetes.io': { namespace: 'made', serviceaccount: { name: 'web' } } };
  const bearer = (pod: Pod, claims = {}): (() => Readonly<Record<string, string>>) => {
    return () => whole.folder.bearer(pod, claims);
  };
  return [
    { who: 'another service account', pod: made, metadata: bearer(made), gets: 'own' },
    { who: 'another account of the same name, whose keys are its own', pod: web, metadata: bearer(web), gets: 'none' },
    {
      who: "another account on the first one's pod",
      pod: { ...made, uid: firstPod },
      metadata: bearer({ ...made, uid: firstPod }),
      gets: 'own',
    },
    { who: 'another pod of the same account', pod: neighbour, metadata: bearer(neighbour), gets: 'own' },
    { who: 'the same account without a pod', pod: victim, metadata: bearer(victim, withoutPod), gets: 'none' },
    ...[instance, firstPod, `hint:${firstPod}`].map((hint) => ({
      who: `the same account without a pod, which says that it is ${hint}`,
      pod: victim,
      metadata: () => ({ ...whole.folder.bearer(victim, withoutPod), 'x-signet-instance': hint }),
      gets: hint === firstPod ? ('own' as const) : ('refused' as const),
    })),
    {
      who: 'another pod, which says that it is the first',
      pod: neighbour,
      metadata: () => ({ ...whole.folder.bearer(neighbour), 'x-signet-instance': firstPod }),
      gets: 'own',
    },
  ];
}

describe("one pod's private material", () => {
  it('is to be had by nobody else, by any name', async (t) => {
    for (const { who, pod, metadata, gets } of others()) {
      await t.test(who, async () => {
        const { responses, refused } = await everythingFor(metadata());
        assert.equal(responses.length === 0 && refused > 0, gets === 'refused');
        const certificates = responses.filter(({ secrets }) => secrets.some((secret) => secret.tls_certificate));
        assert.equal(certificates.length > 0, gets === 'own');
        assert.deepEqual([...findPrivateKey(responses.map(withoutLabels), first.key)], []);
        for (const { secrets } of responses) {
          const own = ['default', idOf(pod), 'ROOTCA', 'spiffe://example.org'];
          for (const { name } of secrets) assert.ok(own.includes(name), `a secret under the name ${JSON.stringify(name)}`);
          for (const { name, tls_certificate } of secrets) {
            if (!tls_certificate) continue;
            const { leaf } = identityIn({ ...(responses[0] as Received), secrets }, name);
            assert.deepEqual(leaf.uris, [idOf(pod)], 'a certificate of its own identity');
            assert.notEqual(leaf.spkiSha256, first.leaf.spkiSha256, 'and of its own key');
          }
        }
      });
    }
  });

  it('is to be had by the pod itself, again', async () => {
    const again = identityIn(await firstResponse(whole.doors.sds(), victim, [victimId]), victimId);
    assert.equal(again.key, first.key, 'one pair for one instance');
  });

  it('is not on the disk either', () => {
    const files = globSync('**', { cwd: whole.folder.data, withFileTypes: true }).filter((entry) => entry.isFile());
    assert.ok(files.some((file) => file.name === 'signet.db'));
    const contents = files.map((file) => readFileSync(`${file.parentPath}/${file.name}`));
    assert.deepEqual([...findPrivateKey(contents, first.key)], []);
  });

  it("is no more within reach by a certificate for the first one's name", async () => {
    const csr = createCsr(generateKeyPair(), [victimId]);
    const thief = whole.folder.bearer({ namespace: 'made', serviceAccount: 'other', uid: secondPod });
    assert.equal((await whole.doors.workload.refused('SignCertificate', { csr }, thief)).reason, 'INVALID_CSR');
    assert.equal((await whole.doors.workload.refused('BindKey', { csr, key_directory: '/tmp' }, thief)).reason, 'PERMISSION_DENIED');
  });
});

/** What is not the victim's label of a PEM key, which every key in `server` mode has. */
function withoutLabels({ bytes }: Received): Buffer {
  return Buffer.from(bytes.toString('latin1').replaceAll('PRIVATE KEY', 'xxxxxxxxxxx'), 'latin1');
}

/** Asks in every way for every name, and gives all that came back. */
async function everythingFor(metadata: Readonly<Record<string, string>>): Promise<{ responses: Received[]; refused: number }> {
  const client = whole.doors.sds();
  const responses: Received[] = [];
  let refused = 0;
  const take = async (work: Promise<Received>): Promise<Received | undefined> => {
    try {
      const received = await work;
      responses.push(received);
      return received;
    } catch {
      refused++;
      return undefined;
    }
  };
  const wanted = [...names(), 'default', 'ROOTCA'];
  // Streams hold 64 names at most.
  for (let at = 0; at < wanted.length; at += 60) {
    const some = wanted.slice(at, at + 60);
    const sotw = client.stream('sotw', metadata);
    sotw.send({ resource_names: some });
    const delta = client.stream('delta', metadata);
    delta.send({ resource_names_subscribe: some });
    // What is being made comes later than the rest: until the own certificate is there, or nothing comes for a while.
    for (const stream of [sotw, delta]) {
      while (await take(stream.next())) {
        if (responses.at(-1)?.secrets.some((secret) => secret.tls_certificate)) break;
        const silent = await stream.quiet(200).then(
          () => true,
          () => false,
        );
        if (silent) break;
      }
      stream.cancel();
    }
  }
  await Promise.all(wanted.map((name) => take(client.fetch({ resource_names: [name] }, metadata))));
  client.close();
  return { responses, refused };
}

describe('two hosts with one service account, each with a key of its own (csr)', () => {
  it('rotate side by side: each stream has its own chain and file, renewal after renewal', async () => {
    const hosts = [web, { ...web, uid: secondPod }];
    const bound = await Promise.all(hosts.map((pod) => bindKey(whole, pod)));
    const streams = hosts.map((pod, i) => whole.doors.sds().stream(i === 0 ? 'sotw' : 'delta', whole.folder.bearer(pod)));
    const serials = new Set<string>();
    for (let round = 0; round < 4; round++) {
      if (round > 0) await whole.doors.admin.call('RenewCertificate', { spiffe_id: idOf(web) });
      for (const [i, stream] of streams.entries()) {
        if (round === 0) stream.send(i === 0 ? { resource_names: ['default'] } : { resource_names_subscribe: ['default'] });
        const received = await stream.next();
        const { leaf, key, keyFile } = identityIn(received);
        assert.equal(key, undefined, 'no private key travels');
        assert.equal(leaf.spkiSha256, bound[i]?.key.spkiSha256);
        assert.equal(keyFile, bound[i]?.keyFile);
        assert.deepEqual(leaf.uris, [idOf(web)]);
        assert.ok(!serials.has(leaf.serial), 'a new certificate');
        serials.add(leaf.serial);
        stream.send(
          i === 0
            ? { resource_names: ['default'], response_nonce: received.nonce, version_info: received.version }
            : { response_nonce: received.nonce },
        );
      }
    }
    assert.equal(serials.size, 8);
    assert.notEqual(bound[0]?.keyFile, bound[1]?.keyFile);
    for (const stream of streams) await stream.quiet();
  });
});
