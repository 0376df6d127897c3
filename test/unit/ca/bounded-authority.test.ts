import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { systemClock } from '../../../src/base/clock.ts';
import { SignetError } from '../../../src/base/errors.ts';
import type { Authority, SignedChain } from '../../../src/ca/authority.ts';
import { boundAuthority } from '../../../src/ca/bounded-authority.ts';
import { openBuiltinAuthority } from '../../../src/ca/builtin/builtin-authority.ts';
import { keySealFromKey, newKeyEncryptionKey } from '../../../src/ca/key-seal.ts';
import { parseTrustDomain } from '../../../src/spiffe/id.ts';
import { authoritySuite, signingRequest } from '../../support/authority-suite.ts';
import { memoryCaState } from '../../support/memory-ca-state.ts';
import { silentLog } from '../../support/silent-log.ts';

const trustDomain = parseTrustDomain('example.org');
const never = new AbortController().signal;
const chain: SignedChain = { certificates: [Buffer.from('leaf')], issuerKeyId: 'ab' };
const code = (expected: string) => (error: unknown) => error instanceof SignetError && error.code === expected;

/** A CA that answers when told to; `deaf` ones ignore being cancelled. */
function manualAuthority(deaf = false) {
  const calls: { resolve: (chain: SignedChain) => void; reject: (error: unknown) => void; signal: AbortSignal }[] = [];
  const authority: Authority = {
    name: 'manual',
    type: 'manual',
    capabilities: { builtHere: false, exactLife: true },
    sign: (_request, signal) =>
      new Promise((resolve, reject) => {
        calls.push({ resolve, reject, signal });
        if (!deaf)
          signal.addEventListener('abort', () => {
            reject(SignetError.from(signal.reason));
          });
      }),
    anchors: () => new Promise(() => undefined),
    issuersEnd: () => Number.POSITIVE_INFINITY,
    health: () => new Promise(() => undefined),
    onChange: () => () => undefined,
    close: () => Promise.resolve(),
  };
  return { calls, authority };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const request = signingRequest(trustDomain);

authoritySuite({
  name: 'builtin, bounded',
  trustDomain,
  intermediates: 1,
  make() {
    const same = {
      name: 'b',
      trustDomain,
      state: memoryCaState(),
      seal: keySealFromKey(newKeyEncryptionKey()),
      clock: systemClock,
      log: silentLog,
    };
    return Promise.resolve({
      open: async () => boundAuthority(await openBuiltinAuthority(same), { concurrency: 2, queue: 100, timeoutMs: 10_000 }),
      dispose: () => Promise.resolve(),
    });
  },
});

describe('a bounded authority', () => {
  it('asks no more at a time than allowed, lets as many wait, and refuses the rest at once', async () => {
    const { calls, authority } = manualAuthority();
    const bounded = boundAuthority(authority, { concurrency: 2, queue: 2, timeoutMs: 60_000 });
    const [one, two, three, four] = [1, 2, 3, 4].map(() => bounded.sign(request, never));
    await assert.rejects(bounded.sign(request, never), code('OVERLOADED'));
    assert.equal(calls.length, 2);
    calls[0]?.resolve(chain);
    assert.equal(await one, chain);
    assert.equal(calls.length, 3, 'the next one has its turn');
    calls[1]?.reject(new SignetError('AUTHORITY_REFUSED', 'no'));
    await assert.rejects(two ?? Promise.resolve(), code('AUTHORITY_REFUSED'));
    assert.equal(calls.length, 4, 'a failure makes room, too');
    calls[2]?.resolve(chain);
    calls[3]?.resolve(chain);
    await Promise.all([three, four]);
    const again = bounded.sign(request, never);
    assert.equal(calls.length, 5);
    calls[4]?.resolve(chain);
    await again;
  });

  it('cancels the call itself, and one that waits leaves the queue', async () => {
    const { calls, authority } = manualAuthority();
    const bounded = boundAuthority(authority, { concurrency: 1, queue: 1, timeoutMs: 60_000 });
    const [first, second] = [new AbortController(), new AbortController()];
    const running = bounded.sign(request, first.signal);
    const waiting = bounded.sign(request, second.signal);
    second.abort();
    await assert.rejects(waiting, code('CANCELLED'));
    const next = bounded.sign(request, never);
    first.abort();
    await assert.rejects(running, code('CANCELLED'));
    assert.equal(calls[0]?.signal.aborted, true);
    assert.equal(calls.length, 2, 'the place passed to the one that still waits');
    calls[1]?.resolve(chain);
    assert.equal(await next, chain);
  });

  it('gives up after its deadline, waiting included, and is free again, even if the CA does not listen', async () => {
    const { calls, authority } = manualAuthority(true);
    const bounded = boundAuthority(authority, { concurrency: 1, queue: 1, timeoutMs: 20 });
    const hung = [bounded.sign(request, never), bounded.sign(request, never)];
    for (const one of hung) await assert.rejects(one, code('AUTHORITY_UNAVAILABLE'));
    assert.ok(calls.every(({ signal }) => signal.aborted));
    const recovered = boundAuthority(authority, { concurrency: 1, queue: 0, timeoutMs: 60_000 });
    const before = calls.length;
    const next = recovered.sign(request, never);
    calls[before]?.resolve(chain);
    assert.equal(await next, chain);

    const after = bounded.sign(request, never);
    assert.equal(calls.length, before + 2, 'the hung calls hold no place');
    calls[before + 1]?.resolve(chain);
    assert.equal(await after, chain);
    calls[0]?.resolve(chain);
    await turn();
  });

  it('gives questions about health and anchors the same deadline', async () => {
    const { authority } = manualAuthority();
    const bounded = boundAuthority(authority, { concurrency: 1, queue: 1, timeoutMs: 10 });
    await assert.rejects(bounded.health(never), code('DEADLINE_EXCEEDED'));
    await assert.rejects(bounded.anchors(never), code('DEADLINE_EXCEEDED'));
  });
});
