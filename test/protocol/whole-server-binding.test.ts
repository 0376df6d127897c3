import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { pemEncode } from '../../src/x509/pem.ts';
import { identityIn } from '../support/received-identity.ts';
import { bindKey, certificateChannel, firstPod, idOf, keyDirectory, madeWeb, secondPod, wholeServer } from '../support/whole-server.ts';
import type { Pod, WholeServer } from '../support/whole-server.ts';

let whole: WholeServer;
before(async () => {
  whole = await wholeServer();
});
after(() => whole[Symbol.asyncDispose]());

const withoutPod = { 'kubernetes.io': { namespace: 'shop', serviceaccount: { name: 'none' } } };
const csr = (): Buffer => createCsr(generateKeyPair(), []);

async function bindings(): Promise<readonly { readonly spiffe_id: string; readonly instance: string; readonly spki_sha256: string }[]> {
  const listed = (await whole.doors.admin.call('ListBindings', { page_size: 1000 })) as {
    readonly bindings: Awaited<ReturnType<typeof bindings>>;
  };
  return listed.bindings;
}

async function boundTo(pod: Pod): Promise<string[]> {
  return (await bindings()).filter(({ spiffe_id }) => spiffe_id === idOf(pod)).map(({ spki_sha256 }) => spki_sha256);
}

describe('`default` in key mode csr', () => {
  it('is unknown until a key is bound, and then there at once; Delta', async () => {
    const pod = { serviceAccount: 'delta' };
    const stream = whole.doors.sds().stream('delta', whole.folder.bearer(pod));
    stream.send({ resource_names_subscribe: ['default', 'ROOTCA'] });
    const removed: string[] = [];
    const got: string[] = [];
    while (removed.length + got.length < 2) {
      const received = await stream.next();
      removed.push(...received.removed);
      got.push(...received.secrets.map(({ name }) => name));
      stream.send({ response_nonce: received.nonce });
    }
    assert.deepEqual({ removed, got }, { removed: ['default'], got: ['ROOTCA'] });
    await stream.quiet();
    const bound = await bindKey(whole, pod);
    const pushed = identityIn(await stream.next());
    assert.equal(pushed.leaf.spkiSha256, bound.key.spkiSha256);
    assert.equal(pushed.keyFile, `${keyDirectory}/${bound.key.spkiSha256}.key`);
    assert.equal(bound.keyFile, pushed.keyFile);
  });

  it('is unknown until a key is bound, and then there at once; state of the world', async () => {
    const pod = { serviceAccount: 'sotw' };
    const stream = whole.doors.sds().stream('sotw', whole.folder.bearer(pod));
    const subscription = { resource_names: ['default', 'ROOTCA'] };
    stream.send(subscription);
    const trust = await stream.next();
    assert.deepEqual(
      trust.secrets.map(({ name }) => name),
      ['ROOTCA'],
    );
    stream.send({ ...subscription, response_nonce: trust.nonce, version_info: trust.version });
    await stream.quiet();
    const bound = await bindKey(whole, pod);
    assert.equal(identityIn(await stream.next()).leaf.spkiSha256, bound.key.spkiSha256);
  });

  it('changes with the key: a new binding pushes a new chain and file at once, on every stream of the instance and no other', async () => {
    const pod = { serviceAccount: 'rebound' };
    const neighbour = { ...pod, uid: secondPod };
    const keys = [await bindKey(whole, pod), await bindKey(whole, neighbour)];
    const streams = [pod, pod, neighbour].map((one) => whole.doors.sds().stream('sotw', whole.folder.bearer(one)));
    for (const [i, stream] of streams.entries()) {
      stream.send({ resource_names: ['default'] });
      const received = await stream.next();
      assert.equal(identityIn(received).leaf.spkiSha256, keys[i === 2 ? 1 : 0]?.key.spkiSha256);
      stream.send({ resource_names: ['default'], response_nonce: received.nonce, version_info: received.version });
    }
    const next = await bindKey(whole, pod, '/tmp/elsewhere');
    for (const stream of streams.slice(0, 2)) {
      const { leaf, keyFile } = identityIn(await stream.next());
      assert.equal(leaf.spkiSha256, next.key.spkiSha256);
      assert.equal(keyFile, `/tmp/elsewhere/${next.key.spkiSha256}.key`);
    }
    await streams[2]?.quiet();
    assert.deepEqual((await boundTo(pod)).toSorted(), [next.key.spkiSha256, keys[1]?.key.spkiSha256].toSorted());
  });

  it('ends when an operator takes the binding away: gone from streams, not signed again, unknown to new ones', async () => {
    const pod = { serviceAccount: 'unbound' };
    const { instance } = await bindKey(whole, pod);
    const stream = whole.doors.sds().stream('delta', whole.folder.bearer(pod));
    stream.send({ resource_names_subscribe: ['default'] });
    const received = await stream.next();
    identityIn(received);
    stream.send({ response_nonce: received.nonce });
    assert.deepEqual(await whole.doors.admin.call('UnbindKey', { spiffe_id: idOf(pod), instance }), { unbound: true });
    assert.deepEqual((await stream.next()).removed, ['default']);
    assert.deepEqual(await whole.doors.admin.call('UnbindKey', { spiffe_id: idOf(pod), instance }), { unbound: false });
    assert.deepEqual(await boundTo(pod), []);
    await whole.doors.admin.call('RenewCertificate', { spiffe_id: idOf(pod) }).catch(() => undefined);
    await stream.quiet();
    const later = whole.doors.sds().stream('delta', whole.folder.bearer(pod));
    later.send({ resource_names_subscribe: ['default'] });
    assert.deepEqual((await later.next()).removed, ['default']);
    const again = await bindKey(whole, pod);
    assert.equal(identityIn(await later.next()).leaf.spkiSha256, again.key.spkiSha256);
  });

  it('survives a restart of the server with its binding', async () => {
    const pod = { serviceAccount: 'restarted' };
    const bound = await bindKey(whole, pod);
    await whole.stop();
    await whole.start();
    const stream = whole.doors.sds().stream('sotw', whole.folder.bearer(pod));
    stream.send({ resource_names: ['default'] });
    const { leaf, keyFile } = identityIn(await stream.next());
    assert.equal(leaf.spkiSha256, bound.key.spkiSha256);
    assert.equal(keyFile, bound.keyFile);
  });
});

describe('what does not bind', () => {
  it('is SignCertificate, and CreateCertificate', async () => {
    const pod = { serviceAccount: 'signed' };
    const stream = whole.doors.sds().stream('delta', whole.folder.bearer(pod));
    stream.send({ resource_names_subscribe: ['default'] });
    const received = await stream.next();
    assert.deepEqual(received.removed, ['default']);
    stream.send({ response_nonce: received.nonce });
    await whole.doors.workload.call('SignCertificate', { csr: csr() }, whole.folder.bearer(pod));
    await whole.doors.istio.call('CreateCertificate', { csr: pemEncode('CERTIFICATE REQUEST', csr()) }, whole.folder.bearer(pod));
    await stream.quiet();
    assert.deepEqual(await boundTo(pod), []);
  });

  it('is a caller that shows a certificate: it may renew, and may not bind', async () => {
    const pod = { serviceAccount: 'renewing' };
    const channel = await certificateChannel(whole, pod);
    const byCertificate = whole.doors.workloadAs(channel);
    const renewed = (await byCertificate.call('SignCertificate', { csr: csr() })) as { readonly spiffe_id: string };
    assert.equal(renewed.spiffe_id, idOf(pod));
    const { code, reason } = await byCertificate.refused('BindKey', { csr: csr(), key_directory: keyDirectory });
    assert.deepEqual({ code, reason }, { code: 7, reason: 'PERMISSION_DENIED' });
    assert.deepEqual(await boundTo(pod), []);
    // What its token bound, its certificate still gets.
    const bound = await bindKey(whole, pod);
    const stream = whole.doors.sds(channel).stream('sotw');
    stream.send({ resource_names: ['default'] });
    assert.equal(identityIn(await stream.next()).leaf.spkiSha256, bound.key.spkiSha256);
  });

  it('is a caller without an instance, who is told what to set; one that names itself may', async () => {
    const pod = { serviceAccount: 'none' };
    const request = { csr: csr(), key_directory: keyDirectory };
    const bearer = whole.folder.bearer(pod, withoutPod);
    const { code, reason, details } = await whole.doors.workload.refused('BindKey', request, bearer);
    assert.deepEqual({ code, reason }, { code: 9, reason: 'INSTANCE_REQUIRED' });
    assert.match(details, /x-signet-instance/);
    const named = { ...bearer, 'x-signet-instance': firstPod };
    const bound = (await whole.doors.workload.call('BindKey', request, named)) as { readonly instance: string };
    assert.equal(bound.instance, `hint:${firstPod}`, 'never the name of a pod');
  });

  it('is a folder outside of those allowed, or one that only seems to be within', async () => {
    const pod = { serviceAccount: 'astray' };
    const folders = [
      '',
      '/',
      '/etc',
      '/etc/signet',
      '/etc/signet/keysmith',
      `${keyDirectory}/..`,
      `${keyDirectory}/../../shadow`,
      `${keyDirectory}/./x`,
    ];
    const odd = [
      'etc/signet/keys',
      `${keyDirectory}/`,
      `${keyDirectory}//x`,
      `${keyDirectory}/a b`,
      `${keyDirectory}/\0`,
      `${keyDirectory}/é`,
      `${keyDirectory}/${'x'.repeat(200)}`,
      '\\\\host\\share',
    ];
    // Each refused try counts against the rate of the instance, so each is another pod's.
    for (const [i, folder] of [...folders, ...odd].entries()) {
      const uid = `${firstPod.slice(0, -2)}${String(i).padStart(2, '0')}`;
      const { code, reason } = await whole.doors.workload.refused(
        'BindKey',
        { csr: csr(), key_directory: folder },
        whole.folder.bearer({ ...pod, uid }),
      );
      assert.deepEqual({ folder, code, reason }, { folder, code: 3, reason: 'INVALID_ARGUMENT' });
    }
    assert.deepEqual(await boundTo(pod), []);
  });

  it('is an identity whose keys the server makes', async () => {
    const { reason } = await whole.doors.workload.refused(
      'BindKey',
      { csr: csr(), key_directory: keyDirectory },
      whole.folder.bearer(madeWeb),
    );
    assert.equal(reason, 'PERMISSION_DENIED');
  });

  it('is done too often: a pod that binds again and again is told to wait', async () => {
    const pod = { serviceAccount: 'hasty' };
    const reasons = new Set<string | undefined>();
    for (let i = 0; i < 30 && !reasons.has('RATE_LIMITED'); i++) {
      const outcome = await bindKey(whole, pod).then(
        () => undefined,
        () => whole.doors.workload.refused('BindKey', { csr: csr(), key_directory: keyDirectory }, whole.folder.bearer(pod)),
      );
      if (outcome) reasons.add(outcome.reason);
    }
    assert.ok(reasons.has('RATE_LIMITED'), [...reasons].join());
    await bindKey(whole, { ...pod, uid: secondPod });
  });
});
