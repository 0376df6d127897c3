import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createAdmission } from '../../../src/server/admission.ts';
import { openDenials } from '../../../src/server/denials.ts';
import { SignetError } from '../../../src/base/errors.ts';
import type { Authenticator } from '../../../src/identity/authenticator.ts';
import type { Caller } from '../../../src/identity/caller.ts';
import type { Policy } from '../../../src/policy/policy.ts';
import { createPolicy } from '../../../src/policy/rules.ts';
import { parseSpiffeId, parseTrustDomain } from '../../../src/spiffe/id.ts';
import { openSqliteStore } from '../../../src/store/sqlite/sqlite-store.ts';
import type { Store } from '../../../src/store/store.ts';
import { failureOf } from '../../support/failure.ts';
import { silentLog } from '../../support/silent-log.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';
import { tempFolder } from '../../support/temp.ts';

const clock = simulatedClock();
const web = parseSpiffeId('spiffe://example.org/ns/shop/sa/web');
const api = parseSpiffeId('spiffe://example.org/ns/shop/sa/api');

/** A store on disk, of which one operation can be made to fail as a full disk does. */
async function failingStore(file: string): Promise<{ store: Store; failing: Set<'put' | 'delete' | 'audit'> }> {
  const real = await openSqliteStore({ file, clock, log: silentLog });
  const failing = new Set<'put' | 'delete' | 'audit'>();
  const unless = <T>(what: 'put' | 'delete' | 'audit', work: () => Promise<T>): Promise<T> =>
    failing.has(what) ? Promise.reject(new SignetError('INTERNAL', 'the disk is full')) : work();
  const store: Store = {
    ...real,
    denials: {
      list: real.denials.list,
      put: (denial) => unless('put', () => real.denials.put(denial)),
      delete: (id) => unless('delete', () => real.denials.delete(id)),
    },
    audit: { ...real.audit, append: (batch) => unless('audit', () => real.audit.append(batch)) },
  };
  return { store, failing };
}

describe('denials', () => {
  it('are in force once they are durable, and on the audit record; they are told of, and survive a restart', async () => {
    await using folder = await tempFolder();
    const { store } = await failingStore(folder.file('signet.db'));
    const denials = await openDenials(store, clock);
    const told: string[] = [];
    const stop = denials.onChange((id) => told.push(`${id} ${String(denials.has(id))}`));
    await denials.deny(web, 'stolen');
    assert.deepEqual([denials.has(web), denials.has(api)], [true, false]);
    assert.deepEqual([...(await openDenials(store, clock).then((again) => [again.has(web), again.has(api)]))], [true, false]);
    assert.equal(await denials.lift(web), true);
    assert.equal(await denials.lift(web), false);
    assert.equal(denials.has(web), false);
    assert.deepEqual(told.slice(0, 2), [`${web} true`, `${web} false`]);
    stop();
    await denials.deny(api, '');
    assert.ok(!told.some((line) => line.startsWith(api)));
    const { items } = await store.audit.list(10);
    assert.deepEqual(
      items
        .map(({ action, subject }) => [action, subject])
        .reverse()
        .slice(0, 2),
      [
        ['deny', web],
        ['lift-denial', web],
      ],
    );
    await store.close();
  });

  it('that could not be written are not in force, nor is a lift: what is answered is what is on the disk', async () => {
    await using folder = await tempFolder();
    const { store, failing } = await failingStore(folder.file('signet.db'));
    const denials = await openDenials(store, clock);
    for (const what of ['put', 'audit'] as const) {
      failing.add(what);
      await failureOf(denials.deny(web, ''));
      assert.equal(denials.has(web), false, what);
      assert.deepEqual(await store.denials.list(), [], what);
      failing.clear();
    }
    await denials.deny(web, '');
    for (const what of ['delete', 'audit'] as const) {
      failing.add(what);
      await failureOf(denials.lift(web));
      assert.equal(denials.has(web), true, what);
      assert.equal((await store.denials.list()).length, 1, what);
      failing.clear();
    }
    await store.close();
  });
});

describe('admission to a stream', () => {
  const caller: Caller = {
    issuer: 'cluster',
    subject: 'x',
    spiffeId: web,
    instance: 'pod:a',
    authenticatedBy: 'token',
    credentialEnds: clock.now() + 60_000,
    tokenSeenAt: clock.now(),
    provedBy: 'token cluster x',
  };

  function world() {
    const denied = new Set<string>();
    const listeners = new Set<() => void>();
    let proved = true;
    const authenticator: Authenticator = {
      authenticate: ({ token }) =>
        token === 'good' ? Promise.resolve(caller) : Promise.reject(new SignetError('UNAUTHENTICATED', 'authentication failed')),
      stillProved: () => proved,
      onChange(listener) {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
    };
    const policy: Policy = createPolicy(
      {
        tiers: { standard: 1000 },
        rules: [],
        keyModes: [],
        defaults: { tier: 'standard', backend: 'b', keyMode: 'csr', keyDirectories: [], keyMaxAgeMs: 1 },
      },
      { trustDomain: parseTrustDomain('example.org'), denied: (id) => denied.has(id) },
    );
    const denialListeners = new Set<() => void>();
    const trustListeners = new Set<() => void>();
    const admission = createAdmission({
      authenticator,
      policy,
      denials: {
        onChange(listener) {
          const heard = (): void => {
            listener(web);
          };
          denialListeners.add(heard);
          return () => denialListeners.delete(heard);
        },
      },
      onTrustChange(listener) {
        trustListeners.add(listener);
        return () => trustListeners.delete(listener);
      },
      credentials: (call) => ({
        token: call.header('authorization'),
        peerChain: [],
        instanceHint: undefined,
        cluster: undefined,
        audiences: [],
      }),
    });
    return {
      admission,
      denied,
      listeners,
      denialListeners,
      trustListeners,
      unprove() {
        proved = false;
      },
    };
  }
  const shown = (token: string) => ({ header: () => token, peerChain: () => [] });
  const noHurry = new AbortController().signal;

  it('is for who proves itself and is not denied', async () => {
    const { admission, denied } = world();
    assert.equal(await admission.authenticate(shown('good'), noHurry), caller);
    assert.equal((await failureOf(() => admission.authenticate(shown('bad'), noHurry))).code, 'UNAUTHENTICATED');
    denied.add(web);
    assert.equal((await failureOf(() => admission.authenticate(shown('good'), noHurry))).code, 'IDENTITY_DENIED');
  });

  it('is judged again: a denial says so, a credential that no longer proves anything says no more', () => {
    const { admission, denied, unprove } = world();
    assert.equal(admission.refusal(caller), undefined);
    unprove();
    assert.equal((admission.refusal(caller) as SignetError).code, 'UNAUTHENTICATED');
    denied.add(web);
    assert.equal((admission.refusal(caller) as SignetError).code, 'IDENTITY_DENIED');
  });

  it('tells of changes of keys (to all), denials (to whom they name) and roots (to who came by a certificate), until told to stop', () => {
    const { admission, listeners, denialListeners, trustListeners } = world();
    const other = { ...caller, spiffeId: parseSpiffeId('spiffe://example.org/ns/shop/sa/other') };
    const byCertificate: Caller = { ...caller, authenticatedBy: 'certificate' };
    const heard: boolean[][] = [];
    const stop = admission.onChange((concerned) => heard.push([caller, other, byCertificate].map(concerned)));
    for (const listener of [...listeners, ...denialListeners, ...trustListeners]) listener();
    assert.deepEqual(heard, [
      [true, true, true],
      [true, false, true],
      [false, false, true],
    ]);
    stop();
    assert.equal(listeners.size + denialListeners.size + trustListeners.size, 0);
  });
});
