import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { describe, it } from 'node:test';
import { SignetError } from '../../../src/base/errors.ts';
import { createIssuer } from '../../../src/issuance/issuer.ts';
import type { IssueRequest } from '../../../src/issuance/issuer.ts';
import { createCsr } from '../../../src/x509/csr.ts';
import { generateKeyPair } from '../../../src/x509/keys.ts';
import { createLeafIssuer } from '../../../src/x509/leaf.ts';
import { failureOf } from '../../support/failure.ts';
import { fakeAuthority } from '../../support/fake-authority.ts';
import { callerOf, issuingWorld } from '../../support/issuing-world.ts';
import type { IssuingWorld } from '../../support/issuing-world.ts';

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;
const own = 'spiffe://test.example/ns/shop/sa/web';

const never = new AbortController().signal;

function signed(world: IssuingWorld, uris: readonly string[] = [own], changes: object = {}): IssueRequest {
  return { mode: 'signed', caller: callerOf(world, 'web', 'pod-1'), csr: createCsr(generateKeyPair(), uris), ...changes };
}

describe('a certificate', () => {
  it('is for the key of the request and the name of the caller, recorded with how it came about', async () => {
    await using world = await issuingWorld();
    const key = generateKeyPair();
    const caller = callerOf(world, 'web', 'pod-1');
    const issued = await world.issuer.issue({ mode: 'signed', caller, csr: createCsr(key, []) }, never);
    const leaf = new X509Certificate(issued.chain.certificates[0]);
    assert.equal(leaf.subjectAltName, `URI:${own}`);
    assert.deepEqual(leaf.publicKey.export({ type: 'spki', format: 'der' }), key.spki);
    const record = await world.store.issued.get(issued.chain.serial);
    assert.deepEqual(record, issued.record);
    assert.equal(record.instance, 'pod-1');
    assert.equal(record.trustGeneration, world.trust.current().generation);
    assert.equal(record.tokenSeenAt, caller.tokenSeenAt);
    assert.equal(issued.anchors, world.trust.current().anchors);
  });

  it('is on record before anybody sees it: a store that fails means no certificate', async () => {
    let shown = false;
    const seen: string[] = [];
    await using world = await issuingWorld({
      onRecord: (serial) => {
        assert.equal(shown, false);
        seen.push(serial);
        if (seen.length === 2) throw new SignetError('STORE_CORRUPT', 'disk full');
      },
    });
    const first = await world.issuer.issue(signed(world), never);
    shown = true;
    assert.deepEqual(seen, [first.chain.serial]);
    shown = false;
    assert.equal((await failureOf(world.issuer.issue(signed(world), never))).code, 'STORE_CORRUPT');
    assert.match(world.issuer.readiness().detail, /could not be recorded/);
    assert.equal(world.issuer.readiness().ready, false);
    await world.issuer.issue(signed(world), never);
    assert.equal(world.issuer.readiness().ready, true);
  });

  it('lives at most what the tier gives, and never past the CA', async () => {
    await using world = await issuingWorld({ tierMs: 12 * hour, intermediateLifeMs: 5 * hour });
    const issued = await world.issuer.issue(signed(world, [], { requestedTtlMs: 30 * day }), never);
    assert.ok(issued.notAfter <= world.authority.issuersEnd());
    assert.equal((await failureOf(world.issuer.issue(signed(world, [], { requestedTtlMs: 91 * day }), never))).code, 'TTL_TOO_LONG');
  });

  it('the first of an instance is drawn from the wide range, later ones from the narrow one, also by an issuer that has just started', async () => {
    const share = (notAfter: number, world: IssuingWorld): number => (notAfter - world.clock.now()) / day;
    await using world = await issuingWorld();
    const shares: number[] = [];
    for (let i = 0; i < 40; i++) {
      const caller = callerOf(world, 'web', `pod-${String(i)}`);
      const first = await world.issuer.issue(signed(world, [], { caller }), never);
      const second = await world.issuer.issue(signed(world, [], { caller }), never);
      shares.push(share(first.notAfter, world));
      assert.ok(share(second.notAfter, world) >= 0.7499);
    }
    assert.ok(Math.min(...shares) < 0.6 && Math.max(...shares) > 0.9);
    const restarted = createIssuer({
      policy: world.policy,
      authorities: new Map([['fake', world.authority]]),
      anchors: () => world.trust.current(),
      recorder: world.recorder,
      gate: world.gate,
      everIssued: ({ spiffeId, instance }) => world.store.issued.any(spiffeId, instance),
      newestIssuedAt: await world.store.issued.newest(),
      clock: world.clock,
      random: () => 0,
      log: world.log,
    });
    const known = await restarted.issue(signed(world, [], { caller: callerOf(world, 'web', 'pod-1') }), never);
    assert.equal(Math.round(share(known.notAfter, world) * 100), 75);
    const unknown = await restarted.issue(signed(world, [], { caller: callerOf(world, 'web', 'pod-new') }), never);
    assert.equal(Math.round(share(unknown.notAfter, world) * 100), 50);
  });
});

describe('names', () => {
  it('none or exactly the own one may be asked for; all else is refused by name', async () => {
    await using world = await issuingWorld();
    await world.issuer.issue(signed(world, []), never);
    await world.issuer.issue(signed(world, [own]), never);
    const refused = [
      ['spiffe://test.example/ns/shop/sa/admin'],
      [own, 'spiffe://test.example/ns/shop/sa/admin'],
      [own, own],
      ['https://evil.example/"x"'],
    ];
    for (const uris of refused) {
      const error = await failureOf(world.issuer.issue(signed(world, uris), never));
      assert.equal(error.code, 'INVALID_CSR');
      assert.ok(!error.message.includes('"x"'), 'no quotes to break out of');
    }
    const named = await failureOf(world.issuer.issue(signed(world, refused[0]), never));
    assert.match(named.message, /sa\/admin/);
    assert.equal(world.authority.requests.length, 2);
  });
});

describe('a denied identity', () => {
  it('gets nothing, and nothing is signed for it', async () => {
    await using world = await issuingWorld();
    world.denied.add(own);
    assert.equal((await failureOf(world.issuer.issue(signed(world), never))).code, 'IDENTITY_DENIED');
    assert.equal(world.authority.requests.length, 0);
  });

  it('gets nothing even if it is denied while its certificate is being recorded', async () => {
    const denied: string[] = [];
    await using world = await issuingWorld({
      onRecord: () => {
        for (const id of denied) world.denied.add(id);
      },
    });
    denied.push(own);
    assert.equal((await failureOf(world.issuer.issue(signed(world), never))).code, 'IDENTITY_DENIED');
  });
});

describe('what a CA returns', () => {
  it('is used only if it is what was asked for', async () => {
    await using world = await issuingWorld();
    const { authority } = world;
    const leaves = createLeafIssuer(authority.issuing);
    const stranger = await fakeAuthority({ clock: world.clock, name: 'stranger' });
    const issuerKeyId = leaves.keyId;
    const other = generateKeyPair();
    const [, intermediate] = (
      await authority.sign(
        {
          ...world.authority.requests[0],
          spiffeId: callerOf(world, 'web', 'x').spiffeId,
          spki: other.spki,
          spkiSha256: other.spkiSha256,
          csr: () => Buffer.alloc(0),
          notBefore: world.clock.now(),
          notAfter: world.clock.now() + hour,
        },
        never,
      )
    ).certificates;
    assert.ok(intermediate);
    const hostile: Record<string, NonNullable<typeof authority.tamper>> = {
      'another key': async (_, request) => ({
        certificates: [(await leaves.issue({ ...request, spki: other.spki })).der, intermediate],
        issuerKeyId,
      }),
      'another name': async (_, request) => ({
        certificates: [(await leaves.issue({ ...request, spiffeId: callerOf(world, 'admin', 'x').spiffeId })).der, intermediate],
        issuerKeyId,
      }),
      'a longer life': async (_, request) => ({
        certificates: [(await leaves.issue({ ...request, notAfter: request.notAfter + hour })).der, intermediate],
        issuerKeyId,
      }),
      'not valid yet': async (_, request) => ({
        certificates: [(await leaves.issue({ ...request, notBefore: request.notBefore + hour })).der, intermediate],
        issuerKeyId,
      }),
      'a CA certificate': () => ({ certificates: [intermediate, authority.root], issuerKeyId }),
      'no intermediate': ({ certificates: [leaf] }) => ({ certificates: [leaf], issuerKeyId }),
      'a chain to an unknown root': (_, request) => stranger.sign(request, never),
      'a leaf by one CA under the other': async (signing, request) => ({
        certificates: [(await stranger.sign(request, never)).certificates[0], ...signing.certificates.slice(1)],
        issuerKeyId,
      }),
      'a damaged signature': ({ certificates: [leaf, ...rest] }) => {
        const damaged = Buffer.from(leaf);
        damaged[damaged.length - 3] = (damaged[damaged.length - 3] ?? 0) ^ 1;
        return { certificates: [damaged, ...rest], issuerKeyId };
      },
      garbage: () => ({ certificates: [Buffer.from('not a certificate')], issuerKeyId }),
    };
    for (const [what, tamper] of Object.entries(hostile)) {
      authority.tamper = tamper;
      const error = await failureOf(world.issuer.issue(signed(world), never));
      assert.equal(error.code, 'AUTHORITY_MISBEHAVED', `${what}: ${error.code} ${error.message}`);
    }
    assert.equal(await world.store.issued.countUnexpired(world.clock.now()), 0);
    authority.tamper = undefined;
    await world.issuer.issue(signed(world), never);
  });

  it('may live shorter than asked', async () => {
    await using world = await issuingWorld();
    const leaves = createLeafIssuer(world.authority.issuing);
    world.authority.tamper = async (signing, request) => ({
      certificates: [(await leaves.issue({ ...request, notAfter: request.notBefore + hour })).der, ...signing.certificates.slice(1)],
      issuerKeyId: leaves.keyId,
    });
    const issued = await world.issuer.issue(signed(world), never);
    assert.ok(issued.notAfter - world.clock.now() <= hour);
    assert.equal(issued.record.notAfter, issued.notAfter);
  });
});

describe('a CA in trouble', () => {
  it('that hangs, even ignoring its signal, is UNAVAILABLE in time', async () => {
    await using world = await issuingWorld({ issuerLimits: { signTimeoutMs: 30 } });
    world.authority.conduct = 'hang';
    assert.equal((await failureOf(world.issuer.issue(signed(world), never))).code, 'AUTHORITY_UNAVAILABLE');
  });

  it('is not waited for once the caller has gone', async () => {
    await using world = await issuingWorld();
    world.authority.conduct = 'hang';
    const caller = new AbortController();
    const pending = failureOf(world.issuer.issue(signed(world), caller.signal));
    setTimeout(() => {
      caller.abort();
    }, 10);
    assert.equal((await pending).code, 'CANCELLED');
  });

  it("does not show its error's words to the client", async () => {
    await using world = await issuingWorld();
    world.authority.conduct = 'throw';
    const error = await failureOf(world.issuer.issue(signed(world), never));
    assert.ok(!error.message.includes('10.0.0.7'));
    assert.match(String(error.cause), /10\.0\.0\.7/);
  });

  it('leaves a bounded number of requests in the making', async () => {
    await using world = await issuingWorld({ gateLimits: { concurrency: () => 3, queue: 0 }, issuerLimits: { signTimeoutMs: 200 } });
    world.authority.conduct = 'hang';
    const requests = Array.from({ length: 10 }, () => signed(world));
    const outcomes = await Promise.all(requests.map((request) => failureOf(world.issuer.issue(request, never))));
    const codes = outcomes.map((error) => error.code);
    assert.equal(codes.filter((code) => code === 'OVERLOADED').length, 7);
    assert.equal(codes.filter((code) => code === 'AUTHORITY_UNAVAILABLE').length, 3);
    world.authority.conduct = 'good';
    await world.issuer.issue(signed(world), never);
  });
});

describe('a CA backend that hangs', () => {
  it('holds up those alone whose certificates it makes', async () => {
    await using world = await issuingWorld({ gateLimits: { concurrency: () => 2, queue: 0 }, issuerLimits: { signTimeoutMs: 500 } });
    world.authority.conduct = 'hang';
    const stuck = [signed(world), signed(world), signed(world)].map((request) => failureOf(world.issuer.issue(request, never)));
    const caller = callerOf(world, 'other-web', 'pod-1');
    const issued = await world.issuer.issue(signed(world, [], { caller }), never);
    assert.equal(issued.record.authority, 'other');
    const codes = (await Promise.all(stuck)).map((error) => error.code);
    assert.deepEqual(codes, ['AUTHORITY_UNAVAILABLE', 'AUTHORITY_UNAVAILABLE', 'OVERLOADED']);
  });
});

describe('the rate of one identity', () => {
  it('is bounded over all of its instances, says when to come back, and leaves others alone', async () => {
    await using world = await issuingWorld({ gateLimits: { identityRate: { perSecond: 2, burst: 3 } } });
    for (let i = 0; i < 3; i++) await world.issuer.issue(signed(world, [], { caller: callerOf(world, 'web', `pod-${String(i)}`) }), never);
    const limited = await failureOf(world.issuer.issue(signed(world, [], { caller: callerOf(world, 'web', 'pod-9') }), never));
    assert.equal(limited.code, 'RATE_LIMITED');
    assert.equal(limited.retryAfterMs, 500);
    await world.issuer.issue(signed(world, [], { caller: callerOf(world, 'api', 'pod-1') }), never);
    world.clock.advance(500);
    await world.issuer.issue(signed(world, []), never);
  });

  it('counts requests that are refused for what they ask', async () => {
    await using world = await issuingWorld({ gateLimits: { identityRate: { perSecond: 1, burst: 2 } } });
    const bad = { csr: Buffer.from('garbage') };
    assert.equal((await failureOf(world.issuer.issue(signed(world, [], bad), never))).code, 'INVALID_CSR');
    assert.equal((await failureOf(world.issuer.issue(signed(world, [], bad), never))).code, 'INVALID_CSR');
    assert.equal((await failureOf(world.issuer.issue(signed(world, [], bad), never))).code, 'RATE_LIMITED');
  });
});

describe('a clock that went back', () => {
  it('by up to five minutes is lived with, by more stops issuing until it is right again', async () => {
    await using world = await issuingWorld();
    await world.issuer.issue(signed(world), never);
    world.clock.advance(-5 * minute);
    await world.issuer.issue(signed(world), never);
    assert.equal(world.issuer.readiness().ready, true);
    world.clock.advance(-1000);
    assert.equal((await failureOf(world.issuer.issue(signed(world), never))).code, 'CLOCK_BEHIND');
    const { ready, detail } = world.issuer.readiness();
    assert.equal(ready, false);
    assert.match(detail, /clock is 5m1s behind/);
    world.clock.advance(minute);
    await world.issuer.issue(signed(world), never);
    assert.equal(world.issuer.readiness().ready, true);
  });

  it('is also noticed by what was on record before this start', async () => {
    await using world = await issuingWorld({ newestIssuedAt: Date.UTC(2026, 0, 1, 1) });
    assert.equal((await failureOf(world.issuer.issue(signed(world), never))).code, 'CLOCK_BEHIND');
    assert.equal(world.issuer.readiness().ready, false);
  });
});

describe('a burst of requests', () => {
  it('leaves turns of the loop to others; a renewal goes before the newcomers that wait, and who has gone away costs nothing', async () => {
    await using world = await issuingWorld();
    const made: string[] = [];
    let others = 0;
    let counting = setImmediate(function count() {
      others++;
      counting = setImmediate(count);
    });
    const gone = new AbortController();
    const issue = async (name: string, request: IssueRequest, signal = never): Promise<void> => {
      await world.issuer.issue(request, signal);
      made.push(name);
    };
    const signedBefore = world.authority.requests.length;
    const burst = Array.from({ length: 200 }, (_, i) => {
      const caller = callerOf(world, 'web', `pod-${String(i)}`);
      return issue('newcomer', signed(world, [], { caller }));
    });
    const leaving = failureOf(issue('gone', signed(world), gone.signal));
    const renewal: IssueRequest = { mode: 'server', caller: callerOf(world, 'web', 'pod-1'), key: generateKeyPair(), renewal: true };
    const urgent = issue('renewal', renewal);
    gone.abort(new SignetError('CANCELLED', 'the client went away'));
    assert.equal((await leaving).code, 'CANCELLED');
    await Promise.all([...burst, urgent]);
    clearImmediate(counting);
    assert.equal(world.authority.requests.length - signedBefore, 201);
    assert.ok(others >= 200 / 8 - 1, `${String(others)} turns`);
    assert.ok(made.indexOf('renewal') < 32, `the renewal was number ${String(made.indexOf('renewal'))}`);
  });
});

describe('key modes', () => {
  it('are what policy says now: a pair made here is certified only where policy has mode server', async () => {
    await using world = await issuingWorld({ keyMode: 'csr' });
    const request: IssueRequest = { mode: 'server', caller: callerOf(world, 'web', 'pod-1'), key: generateKeyPair() };
    assert.equal((await failureOf(world.issuer.issue(request, never))).code, 'PERMISSION_DENIED');
  });

  it('need an instance, and say what to set', async () => {
    await using world = await issuingWorld();
    const error = await failureOf(
      world.issuer.issue({ mode: 'server', caller: callerOf(world, 'web', undefined), key: generateKeyPair() }, never),
    );
    assert.equal(error.code, 'INSTANCE_REQUIRED');
    assert.match(error.message, /instance.*k8s|k8s.*instance/);
    await world.issuer.issue(signed(world, [], { caller: callerOf(world, 'web', undefined) }), never);
  });
});
