import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '../../src/base/clock.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite-store.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { pemEncode } from '../../src/x509/pem.ts';
import type { RawStream, Received } from '../support/raw-sds-client.ts';
import { anchorsIn, identityIn } from '../support/received-identity.ts';
import { eventually } from '../support/eventually.ts';
import { silentLog } from '../support/silent-log.ts';
import { replaceFile } from '../support/temp.ts';
import { testPki } from '../support/test-pki.ts';
import {
  bindKey,
  certificateChannel,
  endOf,
  firstPod,
  idOf,
  keyDirectory,
  madeWeb,
  secondPod,
  web,
  wholeServer,
} from '../support/whole-server.ts';
import type { Pod, WholeServer } from '../support/whole-server.ts';

async function subscribed(
  whole: WholeServer,
  pod: Pod,
  api: 'sotw' | 'delta',
  names: readonly string[],
): Promise<readonly [RawStream, Received]> {
  const stream = whole.doors.sds().stream(api, whole.folder.bearer(pod));
  stream.send(api === 'sotw' ? { resource_names: names } : { resource_names_subscribe: names });
  return [stream, await stream.next()];
}

describe('the stop button', () => {
  let whole: WholeServer;
  before(async () => {
    whole = await wholeServer();
  });
  after(() => whole[Symbol.asyncDispose]());

  const csr = createCsr(generateKeyPair(), []);
  const denied = { code: 7, reason: 'IDENTITY_DENIED' };

  async function isStopped(pod: Pod): Promise<void> {
    const bearer = whole.folder.bearer(pod);
    for (const api of ['sotw', 'delta'] as const) {
      const { code, reason } = await endOf(whole.doors.sds().stream(api, bearer));
      assert.deepEqual({ code, reason }, denied);
    }
    const refusals = [
      await whole.doors.workload.refused('SignCertificate', { csr }, bearer),
      await whole.doors.workload.refused('BindKey', { csr, key_directory: keyDirectory }, bearer),
      await whole.doors.istio.refused('CreateCertificate', { csr: pemEncode('CERTIFICATE REQUEST', csr) }, bearer),
    ];
    for (const { code, reason } of refusals) assert.deepEqual({ code, reason }, denied);
  }

  it('ends every stream of the identity and no other, is durable, survives a restart, and is taken back', async () => {
    const neighbour = { ...madeWeb, serviceAccount: 'api' };
    const streams = [madeWeb, { ...madeWeb, uid: secondPod }].map((pod) => subscribed(whole, pod, 'sotw', ['default']));
    const [other] = await subscribed(whole, neighbour, 'delta', ['default']);
    await Promise.all(streams);
    const answer = await whole.doors.admin.call('DenyIdentity', { spiffe_id: idOf(madeWeb), reason: 'stolen laptop' });
    assert.deepEqual(answer, { streams_ended: 2 });
    for (const opened of streams) {
      const [stream] = await opened;
      const { code, reason } = await endOf(stream);
      assert.deepEqual({ code, reason }, denied);
    }
    await isStopped(madeWeb);
    await whole.doors.admin.call('RenewCertificate', { spiffe_id: idOf(neighbour) });
    identityIn(await other.next());
    assert.ok(!other.isEnded);

    await whole.stop();
    await whole.start();
    await isStopped(madeWeb);
    const { denials } = (await whole.doors.admin.call('ListDenials', {})) as {
      readonly denials: readonly { spiffe_id: string; reason: string }[];
    };
    assert.deepEqual(
      denials.map(({ spiffe_id, reason }) => [spiffe_id, reason]),
      [[idOf(madeWeb), 'stolen laptop']],
    );

    assert.deepEqual(await whole.doors.admin.call('LiftDenial', { spiffe_id: idOf(madeWeb) }), { lifted: true });
    assert.deepEqual(await whole.doors.admin.call('LiftDenial', { spiffe_id: idOf(madeWeb) }), { lifted: false });
    const [, back] = await subscribed(whole, madeWeb, 'sotw', ['default']);
    identityIn(back);
    await whole.doors.workload.call('SignCertificate', { csr }, whole.folder.bearer(madeWeb));
  });

  it('stops certificates that were issued before, too, and those whom nobody has seen yet', async () => {
    const pod = { serviceAccount: 'stopped' };
    await bindKey(whole, pod);
    const channel = await certificateChannel(whole, pod);
    const [held, waiting] = [whole.doors.sds(channel).stream('sotw'), whole.doors.sds(channel).stream('delta')];
    held.send({ resource_names: ['default'] });
    waiting.send({ resource_names_subscribe: ['ROOTCA'] });
    identityIn(await held.next());
    await waiting.next();
    assert.deepEqual(await whole.doors.admin.call('DenyIdentity', { spiffe_id: idOf(pod), reason: '' }), { streams_ended: 2 });
    for (const stream of [held, waiting]) assert.equal((await endOf(stream)).reason, 'IDENTITY_DENIED');
    assert.equal((await endOf(whole.doors.sds(channel).stream('sotw'))).reason, 'IDENTITY_DENIED');
    assert.equal((await whole.doors.workloadAs(channel).refused('SignCertificate', { csr })).reason, 'IDENTITY_DENIED');
    await isStopped(pod);
    const neverSeen = { serviceAccount: 'never-seen' };
    assert.deepEqual(await whole.doors.admin.call('DenyIdentity', { spiffe_id: idOf(neverSeen) }), { streams_ended: 0 });
    await isStopped(neverSeen);
  });

  it('says what is wrong with a name that is none', async () => {
    for (const spiffe_id of ['', 'web', 'spiffe://example.org', 'spiffe://other.org/ns/shop/sa/web', 'spiffe://example.org/ns/../sa']) {
      assert.equal((await whole.doors.admin.refused('DenyIdentity', { spiffe_id })).reason, 'INVALID_ARGUMENT', spiffe_id);
    }
  });
});

describe('a file of trusted roots', () => {
  it('that is replaced goes to every open stream, with a higher generation; a bad one changes nothing; ACKs are durable', async () => {
    const [one, two] = await Promise.all([testPki('one'), testPki('two')]);
    // The file has to be there before the server: its folder is made by it.
    await using whole = await wholeServer();
    const roots = whole.folder.temp.file('roots.pem');
    await writeFile(roots, one.rootPem);
    await whole.folder.configure({ ca: { trustedRoots: [roots] } });
    await whole.stop();
    await whole.start();

    const pods = [web, { ...web, uid: secondPod }, madeWeb, { ...madeWeb, uid: secondPod }];
    const apis = ['sotw', 'delta', 'sotw', 'delta'] as const;
    const streams = await Promise.all(pods.map((pod, i) => subscribed(whole, pod, apis[i] ?? 'sotw', ['ROOTCA'])));
    const ack = (i: number, stream: RawStream, { version, nonce }: Received): void => {
      stream.send(
        apis[i] === 'delta' ? { response_nonce: nonce } : { resource_names: ['ROOTCA'], version_info: version, response_nonce: nonce },
      );
    };
    const generation = ({ version, versions }: Received): number => Number((versions['ROOTCA'] ?? version).split('.')[0]);
    const first = streams.map(([, received]) => generation(received));
    assert.equal(new Set(first).size, 1, 'all have the same generation');
    for (const [i, [stream, received]] of streams.entries()) {
      assert.ok(anchorsIn(received).includes(one.rootPem.trim()));
      ack(i, stream, received);
    }

    await replaceFile(roots, two.rootPem);
    const second: number[] = [];
    for (const [i, [stream]] of streams.entries()) {
      const pushed = await stream.next();
      assert.ok(anchorsIn(pushed).includes(two.rootPem.trim()));
      assert.ok(!anchorsIn(pushed).includes(one.rootPem.trim()));
      second.push(generation(pushed));
      // The last one never says that it took it.
      if (i < 3) ack(i, stream, pushed);
    }
    assert.equal(new Set(second).size, 1);
    assert.ok((second[0] ?? 0) > (first[0] ?? 0), `${String(second[0])} after ${String(first[0])}`);
    await eventually('the bundle file follows', async () => {
      return (await readFile(`${whole.folder.data}/bundle.pem`, 'utf8')).includes(two.rootPem.trim()) || undefined;
    });

    const { keyPem } = await two.server();
    for (const bad of ['', 'not PEM', keyPem]) {
      await replaceFile(roots, bad);
      for (const [stream] of streams) await stream.quiet(250);
    }

    // Restarted, it has the last good roots of a file that is bad now, under the same generation.
    await whole.stop();
    const store = await openSqliteStore({ file: `${whole.folder.data}/signet.db`, clock: systemClock, log: silentLog });
    try {
      for (const [i, pod] of pods.entries()) {
        const acknowledged = await store.acknowledged(idOf(pod), `pod:${pod.uid ?? firstPod}`);
        assert.equal(acknowledged, i < 3 ? second[0] : first[0], `what the stream ${String(i)} said is durable`);
      }
    } finally {
      await store.close();
    }
    await whole.start();
    const [, again] = await subscribed(whole, web, 'sotw', ['ROOTCA']);
    assert.equal(generation(again), second[0]);
    assert.ok(anchorsIn(again).includes(two.rootPem.trim()));
  });
});
