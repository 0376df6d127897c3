import assert from 'node:assert/strict';
import { on, once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, it } from 'node:test';
import { adminService } from '../../src/api/admin-service.ts';
import type { AdminService } from '../../src/api/admin-service.ts';
import { createAuthorityHealth } from '../../src/api/authority-health.ts';
import { createLedger } from '../../src/ledger/ledger.ts';
import type { Ledger } from '../../src/ledger/ledger.ts';
import type { StreamInfo } from '../../src/ledger/delivery.ts';
import type { SpiffeId } from '../../src/spiffe/id.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { apiWorld } from '../support/api-world.ts';
import type { ApiWorld } from '../support/api-world.ts';
import { grpcCaller } from '../support/grpc-caller.ts';
import type { GrpcCaller } from '../support/grpc-caller.ts';
import { callerOf } from '../support/issuing-world.ts';

const web = 'spiffe://test.example/ns/shop/sa/web';

interface Certificates {
  readonly certificates: readonly { readonly serial: string; readonly spiffe_id: string; readonly instance: string }[];
  readonly next_page_token: string;
}

let world: ApiWorld;
let admin: AdminService;
let ledger: Ledger;
let operator: GrpcCaller;
const denied: SpiffeId[] = [];

before(async () => {
  world = await apiWorld({ keyMode: 'server' });
  const { store, clock, log, trust, certificates, renewer, bindings, issuer, authority } = world.issuing;
  ledger = createLedger({ acknowledge: store.acknowledge, clock, log });
  admin = adminService({
    log,
    timeoutMs: 5000,
    version: '1.2.3',
    trustDomain: 'test.example',
    mode: 'dev',
    startedAt: clock.now(),
    clock,
    readiness: issuer.readiness,
    trust: trust.current,
    onTrustChange: trust.subscribe,
    ledger,
    held: certificates.get,
    dueAt: renewer.dueAt,
    authorities: createAuthorityHealth(() => [authority], clock),
    issued: store.issued,
    jwtKeys: () => ({ keyId: 'now', signsUntil: clock.now() + 1000, next: { keyId: 'then', publishedAt: 1 } }),
    bindings: { list: bindings.list, unbind: bindings.unbind },
    renew: certificates.renew,
    denials: {
      list: () => store.denials.list(),
      async deny(id, reason) {
        await store.denials.put({ spiffeId: id, at: clock.now(), reason });
        denied.push(id);
        return 3;
      },
      lift: (id) => store.denials.delete(id),
    },
  });
  const address = await world.serve(admin.register);
  operator = grpcCaller({ address, file: 'signet/v1/admin_service.proto', service: 'signet.v1.AdminService' });
});
after(async () => {
  operator.close();
  await ledger.close();
  await world[Symbol.asyncDispose]();
});

async function issue(account: string, instance: string | undefined): Promise<string> {
  const { issuer } = world.issuing;
  const request = {
    mode: 'signed',
    caller: callerOf(world.issuing, account, instance),
    csr: createCsr(generateKeyPair(), []),
    requestedTtlMs: 3_600_000,
  } as const;
  return (await issuer.issue(request, AbortSignal.timeout(5000))).record.serial;
}

async function list(request: object): Promise<Certificates> {
  return (await operator.call('ListCertificates', request)) as Certificates;
}

describe('certificates', () => {
  it('are listed newest first, page by page, each once', async () => {
    const serials: string[] = [];
    for (let i = 0; i < 5; i++) {
      serials.unshift(await issue('web', `pod:${String(i)}`));
      world.issuing.clock.advance(1000);
    }
    const seen: string[] = [];
    let page_token = '';
    do {
      const page = await list({ page_size: 2, page_token });
      assert.ok(page.certificates.length <= 2);
      seen.push(...page.certificates.map(({ serial }) => serial));
      page_token = page.next_page_token;
    } while (page_token !== '');
    assert.deepEqual(seen, serials);
  });

  it('are found by identity, by instance, by being unexpired, and by serial in any writing', async () => {
    const serial = await issue('api', 'pod:a');
    assert.deepEqual(
      (await list({ spiffe_id: 'spiffe://test.example/ns/shop/sa/api' })).certificates.map((one) => one.serial),
      [serial],
    );
    assert.equal((await list({ spiffe_id: web, instance: 'pod:3' })).certificates.length, 1);
    const colons = serial.toUpperCase().match(/../g)?.join(':') ?? '';
    for (const writing of [serial, colons]) {
      const found = (await operator.call('GetCertificate', { serial: writing })) as Certificates['certificates'][number];
      assert.deepEqual([found.serial, found.instance], [serial, 'pod:a']);
    }
    world.issuing.clock.advance(2 * 3_600_000);
    assert.equal((await list({ unexpired: true })).certificates.length, 0);
    assert.notEqual((await list({})).certificates.length, 0);
  });

  it('that are not there, or asked for in a way that makes no sense, are said to be so', async () => {
    assert.equal((await operator.refused('GetCertificate', { serial: 'ff' })).reason, 'NOT_FOUND');
    assert.equal((await operator.refused('ListCertificates', { page_size: -1 })).reason, 'INVALID_ARGUMENT');
    assert.equal((await operator.refused('ListCertificates', { spiffe_id: 'web' })).reason, 'INVALID_ARGUMENT');
    assert.equal((await operator.refused('ListCertificates', { page_token: 'x'.repeat(5000) })).reason, 'INVALID_ARGUMENT');
    assert.equal((await operator.refused('RenewCertificate', { spiffe_id: '' })).reason, 'INVALID_ARGUMENT');
  });

  it('are renewed for each instance that holds a stream, and for nobody else', async () => {
    assert.deepEqual(await operator.call('RenewCertificate', { spiffe_id: web }), { certificates: [] });
    const feed = world.issuing.certificates.feed(callerOf(world.issuing, 'web', 'pod:live'));
    assert.ok(feed);
    const made = Promise.withResolvers<undefined>();
    const stop = feed.subscribe(() => {
      if (typeof feed.current() === 'object') made.resolve(undefined);
    });
    await made.promise;
    const before = feed.current();
    const { certificates } = (await operator.call('RenewCertificate', { spiffe_id: web })) as Certificates;
    const now = feed.current();
    assert.ok(typeof before === 'object' && typeof now === 'object');
    assert.notEqual(now.version, before.version);
    assert.deepEqual(
      certificates.map(({ serial, instance }) => [serial, instance]),
      [[now.version, 'pod:live']],
    );
    stop();
  });
});

describe('denials and bindings', () => {
  it('are made, listed and lifted', async () => {
    assert.deepEqual(await operator.call('DenyIdentity', { spiffe_id: web, reason: 'stolen' }), { streams_ended: 3 });
    assert.deepEqual(denied, [web]);
    assert.deepEqual(await operator.call('ListDenials', {}), {
      denials: [{ spiffe_id: web, at: world.issuing.clock.now(), reason: 'stolen' }],
    });
    assert.deepEqual(await operator.call('LiftDenial', { spiffe_id: web }), { lifted: true });
    assert.deepEqual(await operator.call('LiftDenial', { spiffe_id: web }), { lifted: false });
    assert.equal((await operator.refused('DenyIdentity', { spiffe_id: 'web' })).reason, 'INVALID_ARGUMENT');
  });

  it('of keys: one is taken away by identity and instance, both named', async () => {
    const binding = {
      spiffeId: web,
      instance: 'pod:b',
      issuer: 'k8s',
      spkiSha256: 'ab',
      csr: Buffer.from('x'),
      keyFile: '/run/keys/ab.key',
      boundAt: 1000,
      keyEnds: 2000,
      lastUsedAt: 1500,
    };
    await world.issuing.store.bindings.put(binding);
    assert.deepEqual(await operator.call('ListBindings', {}), {
      bindings: [
        {
          spiffe_id: web,
          instance: 'pod:b',
          spki_sha256: 'ab',
          key_file: '/run/keys/ab.key',
          bound_at: 1000,
          key_ends: 2000,
          last_used_at: 1500,
        },
      ],
      next_page_token: '',
    });
    assert.equal((await operator.refused('UnbindKey', { spiffe_id: web })).reason, 'INVALID_ARGUMENT');
    assert.deepEqual(await operator.call('UnbindKey', { spiffe_id: web, instance: 'pod:b' }), { unbound: true });
    assert.deepEqual(await operator.call('UnbindKey', { spiffe_id: web, instance: 'pod:b' }), { unbound: false });
  });
});

describe('the status', () => {
  const stream = (id: number): StreamInfo => ({
    id,
    caller: callerOf(world.issuing, 'web', 'pod:live'),
    api: 'delta',
    openedAt: world.issuing.clock.now(),
    nodeId: 'node-1',
    envoyVersion: '1.40.0',
  });

  it('shows server, trust, CA backends, and what each stream was sent and made of it', async () => {
    ledger.opened(stream(1));
    const { version, generation } = world.issuing.trust.current();
    const bundle = { key: 'bundle', type: 'validation', version, generation, serial: undefined, keyOnHost: false } as const;
    ledger.sent(stream(1), bundle);
    ledger.rejected(stream(1), bundle, { class: 'bad-trust', detail: 'redacted' });
    const status = (await operator.call('GetStatus', {})) as Record<string, unknown>;
    assert.deepEqual(
      [status.version, status.trust_domain, status.mode, status.ready, status.detail, status.trust_generation, status.stream_count],
      ['1.2.3', 'test.example', 'dev', true, '', generation, 1],
    );
    assert.deepEqual(status.authorities, [{ name: 'fake', type: 'fake', can_sign: true, detail: '' }]);
    assert.deepEqual(status.jwt_key, { key_id: 'now', signs_until: world.issuing.clock.now() + 1000, next_key_id: 'then' });
    const [anchor] = status.anchors as [{ subject: string; sha256: string }];
    assert.equal(anchor.subject, 'O=Test, CN=fake root');
    assert.match(anchor.sha256, /^[0-9a-f]{64}$/);
    const [shown] = status.streams as [{ spiffe_id: string; instance: string; api: string; secrets: Record<string, unknown>[] }];
    assert.deepEqual([shown.spiffe_id, shown.instance, shown.api], [web, 'pod:live', 'delta']);
    assert.deepEqual(
      [shown.secrets[0]?.key, shown.secrets[0]?.state, shown.secrets[0]?.nack_class, shown.secrets[0]?.nack_detail],
      ['bundle', 'rejected', 'bad-trust', 'redacted'],
    );
    ledger.closed(stream(1), 'done');
  });

  it("tells of a backend that doesn't answer within its time", async () => {
    const hanging = createAuthorityHealth(
      () => [{ name: 'slow', type: 'fake', health: () => new Promise(() => undefined) }],
      world.issuing.clock,
    );
    const [slow] = await hanging();
    assert.deepEqual([slow?.canSign, slow?.detail], [false, 'the call took too long']);
  });

  it('watched, comes at once and after changes, never more than four times a second, and the last one is the truth', async () => {
    const watch = operator.watch('WatchStatus', {});
    const times: number[] = [];
    let last: Record<string, unknown> = {};
    const counting = (async () => {
      for await (const [status] of on(watch, 'data', { close: ['end'] }) as AsyncIterable<[Record<string, unknown>]>) {
        times.push(performance.now());
        last = status;
      }
    })();
    const end = performance.now() + 1100;
    for (let id = 100; performance.now() < end; id++) {
      ledger.opened(stream(id));
      await sleep(10);
    }
    const { eventually } = await import('../support/eventually.ts');
    await eventually('the last change', () => (last.stream_count === ledger.streamCount ? true : undefined));
    const ended = once(watch, 'status');
    admin.close();
    assert.equal(((await ended) as [{ code: number }])[0].code, 0);
    await counting;
    assert.ok(times.length >= 2, 'changes were told');
    // 250 ms apart at the server; what lies between is the network's and the machine's doing, so the mean is judged.
    const [first = 0] = times;
    assert.ok(
      times.length - 1 <= ((times.at(-1) ?? 0) - first) / 250 + 1,
      `${String(times.length)} statuses in ${String((times.at(-1) ?? 0) - first)} ms`,
    );
  });
});
