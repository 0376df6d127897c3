/** What a workload holds is replaced by what was verified, and by nothing else. */
import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { createTrustVersions } from '../../../src/agent/trust-versions.ts';
import { createWorkload } from '../../../src/agent/workload.ts';
import type { Workload, WorkloadParts } from '../../../src/agent/workload.ts';
import { systemClock } from '../../../src/base/clock.ts';
import { SignetError } from '../../../src/base/errors.ts';
import type { RenewalEvent } from '../../../src/rotation/renewer.ts';
import { parseTrustDomain } from '../../../src/spiffe/id.ts';
import { parseCsr } from '../../../src/x509/csr.ts';
import { fakeUpstream } from '../../support/fake-upstream.ts';
import type { FakeUpstream } from '../../support/fake-upstream.ts';
import { silentLog } from '../../support/silent-log.ts';
import { tempFolder } from '../../support/temp.ts';

const id = 'spiffe://td.test/ns/shop/sa/web';

interface World extends AsyncDisposable {
  readonly upstream: FakeUpstream;
  readonly workload: Workload;
  readonly events: RenewalEvent[];
  readonly tokenFile: string;
}

async function world(parts: Partial<WorkloadParts> = {}): Promise<World> {
  const temp = await tempFolder();
  const tokenFile = temp.file('token');
  await writeFile(tokenFile, 'first.token');
  const upstream = fakeUpstream(id);
  const workload = createWorkload({
    name: 'web',
    trustDomain: parseTrustDomain('td.test'),
    tokenFile,
    keyType: 'ec-p256',
    spiffeId: undefined,
    renewByCertificate: true,
    upstream,
    trustVersions: createTrustVersions(systemClock),
    initial: undefined,
    keep: () => undefined,
    renewed: () => undefined,
    clock: systemClock,
    log: silentLog,
    ...parts,
  });
  const events: RenewalEvent[] = [];
  workload.onEvent((event) => events.push(event));
  return { upstream, workload, events, tokenFile, [Symbol.asyncDispose]: () => temp[Symbol.asyncDispose]() };
}

describe("a workload's material", () => {
  const lies: readonly (readonly [string, (upstream: FakeUpstream) => Parameters<FakeUpstream['lie']>[0]])[] = [
    ["another key's certificate", (upstream) => async (answer) => ({ ...answer, chain: await upstream.strange(id) })],
    ['a name of another trust domain', () => (answer) => ({ ...answer, spiffeId: 'spiffe://other.test/ns/shop/sa/web' })],
    ['another name than before', () => (answer) => ({ ...answer, spiffeId: 'spiffe://td.test/ns/shop/sa/other' })],
    ['a chain of nobody', () => (answer) => ({ ...answer, chain: [] })],
    ['garbage', () => (answer) => ({ ...answer, chain: [Buffer.from('garbage')] })],
    ['no anchors', () => (answer) => ({ ...answer, anchors: [], trustGeneration: 2 })],
    ['anchors that the chain does not hang on', () => (answer) => ({ ...answer, anchors: [fakeUpstream(id).root], trustGeneration: 2 })],
  ];
  for (const [what, how] of lies) {
    it(`stays as it is when the server answers with ${what}`, async () => {
      await using one = await world();
      await one.workload.renew();
      const before = one.workload.feed.current();
      assert.ok(before);
      one.upstream.lie(how(one.upstream));
      await one.workload.renew();
      assert.equal(one.workload.feed.current(), before);
      const failed = one.events.at(-1);
      assert.ok(failed?.kind === 'failed' && failed.failures === 1 && failed.notAfter === before.chain.notAfter);
      one.upstream.lie(undefined);
      await one.workload.renew();
      assert.notEqual(one.workload.feed.current()?.chain.serial, before.chain.serial);
    });
  }

  it('puts its name into the request once the server says that its CA needs it there', async () => {
    await using one = await world();
    const names: (readonly string[])[] = [];
    const { call } = one.upstream;
    one.upstream.call = (method, request, credential, signal) => {
      const { uris } = parseCsr((request as { readonly csr: Buffer }).csr);
      names.push(uris);
      if (uris.length === 0)
        return Promise.reject(new SignetError('CSR_NAME_REQUIRED', 'the CA needs it', { metadata: { spiffe_id: id } }));
      return call(method, request, credential, signal);
    };
    await one.workload.renew();
    assert.equal(one.workload.feed.current()?.spiffeId, id);
    assert.deepEqual(names, [[], [id]]);
  });

  it('has a new key with each certificate', async () => {
    await using one = await world();
    const keys = new Set<string>();
    for (let n = 0; n < 3; n++) {
      await one.workload.renew();
      keys.add(one.workload.feed.current()?.chain.spkiSha256 ?? '');
    }
    assert.equal(keys.size, 3);
  });

  it('takes newer trust, and never older', async () => {
    await using one = await world();
    await one.workload.renew();
    const other = fakeUpstream(id).root;
    one.workload.takeTrust(5, [one.upstream.root, other]);
    const count = () => [...(one.workload.feed.current()?.anchors.values() ?? [])][0]?.anchors.certificates.length;
    assert.equal(count(), 2);
    // Told, and so refused upstream: an acknowledgement would say that it is held.
    assert.throws(() => {
      one.workload.takeTrust(4, [one.upstream.root]);
    }, /generation 4, older than what is held, 5/);
    assert.equal(count(), 2);
    one.workload.takeTrust(4, [other, one.upstream.root]);
    assert.equal(count(), 2, 'the same anchors are held, whatever their number');
    assert.throws(() => {
      one.workload.takeTrust(6, []);
    });
    assert.equal(count(), 2);
    await one.workload.renew();
    assert.equal(count(), 2, 'also not by an answer that was on its way');
  });

  it('is renewed at once when newer trust no longer carries its chain', async () => {
    await using one = await world();
    await one.workload.renew();
    one.workload.takeTrust(5, [fakeUpstream(id).root]);
    await one.workload.renew();
    assert.equal(one.upstream.shown.length, 2);
  });
});

describe('what a workload shows of itself', () => {
  it('is its token as the file has it at that moment', async () => {
    await using one = await world();
    await one.workload.renew();
    await writeFile(one.tokenFile, 'second.token\n');
    await one.workload.renew();
    assert.deepEqual(one.upstream.shown, [
      { kind: 'token', token: 'first.token' },
      { kind: 'token', token: 'second.token' },
    ]);
  });

  it('is its certificate when the token is refused or gone, and its token again when that is taken', async () => {
    await using one = await world();
    await one.workload.renew();
    one.upstream.refuse(({ kind }) => (kind === 'token' ? new SignetError('UNAUTHENTICATED', 'no') : undefined));
    await one.workload.renew();
    await rm(one.tokenFile);
    await one.workload.renew();
    one.upstream.refuse(undefined);
    await writeFile(one.tokenFile, 'third.token');
    await one.workload.renew();
    assert.deepEqual(
      one.upstream.shown.map(({ kind }) => kind),
      ['token', 'token', 'certificate', 'certificate', 'token'],
    );
    assert.equal(one.workload.failure(), undefined);
  });

  it('is never its certificate where that is off, or for another reason than the token', async () => {
    await using off = await world({ renewByCertificate: false });
    await off.workload.renew();
    await rm(off.tokenFile);
    await off.workload.renew();
    assert.equal(off.workload.failure()?.code, 'UNAUTHENTICATED');
    await using denied = await world();
    await denied.workload.renew();
    denied.upstream.refuse(() => new SignetError('IDENTITY_DENIED', 'stopped'));
    await denied.workload.renew();
    assert.ok([...off.upstream.shown, ...denied.upstream.shown].every(({ kind }) => kind === 'token'));
  });
});

describe('the next try', () => {
  it('comes within three seconds while servers are away, and when the server says so otherwise', async () => {
    await using one = await world();
    one.upstream.refuse(() => new SignetError('AUTHORITY_UNAVAILABLE', 'away'));
    await one.workload.renew();
    const away = one.events.at(-1);
    assert.ok(away?.kind === 'failed' && away.longestRetryMs === 3000 && away.retryAfterMs === undefined);
    one.upstream.refuse(() => new SignetError('RATE_LIMITED', 'later', { retryAfterMs: 20_000 }));
    await one.workload.renew();
    const limited = one.events.at(-1);
    assert.ok(limited?.kind === 'failed' && limited.longestRetryMs === undefined && limited.retryAfterMs === 20_000);
    assert.equal(limited.failures, 2);
  });
});
