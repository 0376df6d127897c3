import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { describe, it } from 'node:test';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { certificatesFromPem, pemEncode } from '../../src/x509/pem.ts';
import { eventually } from '../support/eventually.ts';
import { identityIn } from '../support/received-identity.ts';
import { limitFileSize, serverProcess } from '../support/whole-server-process.ts';
import type { ServerProcess } from '../support/whole-server-process.ts';
import { bindKey, endOf, idOf, madeWeb, secondPod, web, wholeFolder } from '../support/whole-server.ts';
import type { WholeFolder } from '../support/whole-server.ts';

const csr = createCsr(generateKeyPair(), []);

async function recorded(server: ServerProcess): Promise<ReadonlySet<string>> {
  const serials = new Set<string>();
  let token = '';
  do {
    const page = (await server.doors.admin.call('ListCertificates', { page_size: 500, page_token: token })) as {
      readonly certificates: readonly { readonly serial: string }[];
      readonly next_page_token: string;
    };
    for (const { serial } of page.certificates) serials.add(serial);
    token = page.next_page_token;
  } while (token !== '');
  return serials;
}

/** Clients that take one certificate after the other, by every way, until the server is gone. */
function greedyClients(
  folder: WholeFolder,
  { doors, pid }: ServerProcess,
): { readonly seen: Set<string>; readonly done: Promise<unknown> } {
  const seen = new Set<string>();
  const sign = async (i: number): Promise<void> => {
    const bearer = folder.bearer({ serviceAccount: `signed-${String(i)}` });
    for (;;) {
      const { serial } = (await doors.workload.call('SignCertificate', { csr }, bearer)) as { readonly serial: string };
      seen.add(serial);
    }
  };
  const istio = async (): Promise<void> => {
    const bearer = folder.bearer({ serviceAccount: 'istio' });
    for (;;) {
      const request = { csr: pemEncode('CERTIFICATE REQUEST', csr) };
      const { cert_chain } = (await doors.istio.call('CreateCertificate', request, bearer)) as { readonly cert_chain: readonly string[] };
      const [leaf] = certificatesFromPem(cert_chain[0] ?? '');
      if (leaf) seen.add(parseCertificate(leaf).serial);
    }
  };
  const streamed = async (): Promise<void> => {
    const stream = doors.sds().stream('delta', folder.bearer(madeWeb));
    stream.send({ resource_names_subscribe: ['default'] });
    for (;;) {
      const received = await stream.next();
      seen.add(identityIn(received).leaf.serial);
      stream.send({ response_nonce: received.nonce });
      await doors.admin.call('RenewCertificate', { spiffe_id: idOf(madeWeb) });
    }
  };
  assert.ok(pid > 0);
  return { seen, done: Promise.allSettled([...[1, 2, 3, 4, 5, 6].map(sign), istio(), streamed()]) };
}

describe('a server that is killed', () => {
  it('in the midst of issuing has every certificate on record that anybody ever saw', async () => {
    await using folder = await wholeFolder();
    const seen = new Set<string>();
    let bound: string | undefined;
    for (const atLeast of [150, 60]) {
      await using server = await serverProcess(folder);
      bound ??= (await bindKey({ folder, doors: server.doors }, web)).key.spkiSha256;
      const clients = greedyClients(folder, server);
      await eventually('enough certificates', () => clients.seen.size >= atLeast || undefined, 60_000, 5);
      await server.end('SIGKILL');
      await clients.done;
      for (const serial of clients.seen) seen.add(serial);
    }
    await using server = await serverProcess(folder);
    const onRecord = await recorded(server);
    assert.deepEqual(
      [...seen].filter((serial) => !onRecord.has(serial)),
      [],
    );
    // And so is what was bound.
    const stream = server.doors.sds().stream('sotw', folder.bearer(web));
    stream.send({ resource_names: ['default'] });
    assert.equal(identityIn(await stream.next()).leaf.spkiSha256, bound);
  });
});

describe('a server that is asked to end', () => {
  it('ends its streams with OK, lets calls end, exits with 0, and leaves nothing that the next one minds', async () => {
    await using folder = await wholeFolder();
    await using server = await serverProcess(folder);
    const streams = ['sotw', 'delta', 'sotw'].map((api, i) =>
      server.doors.sds().stream(api === 'delta' ? 'delta' : 'sotw', folder.bearer({ ...madeWeb, ...(i === 2 ? { uid: secondPod } : {}) })),
    );
    for (const [i, stream] of streams.entries()) {
      stream.send(i === 1 ? { resource_names_subscribe: ['default'] } : { resource_names: ['default'] });
      identityIn(await stream.next());
    }
    const ends = Promise.all(streams.map(endOf));
    assert.equal(await server.end('SIGTERM'), 0, server.stderr());
    assert.deepEqual(
      (await ends).map(({ code, details }) => [code, details]),
      Array(3).fill([0, 'OK']),
    );
    assert.equal(server.stderr(), '', 'nothing worth an error');
    await using next = await serverProcess(folder);
    assert.equal(await next.end('SIGINT'), 0);
  });
});

describe('a disk that is full', () => {
  it('means no certificate and a definite answer; open streams go on, and all is well once there is room', async () => {
    await using folder = await wholeFolder();
    await using server = await serverProcess(folder);
    const { doors } = server;
    const stream = doors.sds().stream('sotw', folder.bearer(madeWeb));
    const subscription = { resource_names: ['default'] };
    stream.send(subscription);
    const before = await stream.next();
    stream.send({ ...subscription, response_nonce: before.nonce, version_info: before.version });

    const wal = statSync(`${folder.data}/signet.db-wal`).size;
    await limitFileSize(server.pid, Math.max(4096, Math.floor(wal / 2)));
    const seen: string[] = [];
    const refused: { code: number; reason: string | undefined; details: string }[] = [];
    for (let i = 0; i < 5; i++) {
      await doors.workload.call('SignCertificate', { csr }, folder.bearer(web)).then(
        (signed) => seen.push((signed as { readonly serial: string }).serial),
        async () => refused.push(await doors.workload.refused('SignCertificate', { csr }, folder.bearer(web))),
      );
    }
    const [first] = refused;
    assert.ok(first, `${String(seen.length)} certificates were given out on a full disk`);
    assert.ok([13, 14].includes(first.code), JSON.stringify(first));
    assert.ok(!/sqlite|disk|\/tmp/i.test(first.details), 'what broke is for the log');
    assert.notEqual((await doors.admin.refused('DenyIdentity', { spiffe_id: idOf(web) })).code, 0);
    assert.equal((await doors.admin.refused('RenewCertificate', { spiffe_id: idOf(madeWeb) })).reason, first.reason);
    assert.match(server.stderr(), /"level":"error"/);
    await stream.quiet();
    assert.ok(!stream.isEnded);
    // Reading needs no room: a second stream of the instance has the same certificate.
    const second = doors.sds().stream('sotw', folder.bearer(madeWeb));
    second.send(subscription);
    assert.equal(identityIn(await second.next()).leaf.serial, identityIn(before).leaf.serial);

    await limitFileSize(server.pid, undefined);
    const signed = (await doors.workload.call('SignCertificate', { csr }, folder.bearer(web))) as { readonly serial: string };
    await doors.admin.call('RenewCertificate', { spiffe_id: idOf(madeWeb) });
    const after = identityIn(await stream.next()).leaf.serial;
    assert.notEqual(after, identityIn(before).leaf.serial);
    const onRecord = await recorded(server);
    for (const serial of [...seen, signed.serial, after]) assert.ok(onRecord.has(serial));
  });
});
