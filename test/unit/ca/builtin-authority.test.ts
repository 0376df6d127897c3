import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { SignetError } from '../../../src/base/errors.ts';
import { openBuiltinAuthority } from '../../../src/ca/builtin/builtin-authority.ts';
import type { BuiltinAuthorityOptions } from '../../../src/ca/builtin/builtin-authority.ts';
import type { Authority } from '../../../src/ca/authority.ts';
import type { CaState } from '../../../src/ca/ca-state.ts';
import { keySealFromKey, newKeyEncryptionKey } from '../../../src/ca/key-seal.ts';
import { systemClock } from '../../../src/base/clock.ts';
import { parseTrustDomain } from '../../../src/spiffe/id.ts';
import { parseCertificate } from '../../../src/x509/certificate.ts';
import { verifyChain } from '../../../src/x509/chain.ts';
import { pemEncode } from '../../../src/x509/pem.ts';
import { authoritySuite, signingRequest } from '../../support/authority-suite.ts';
import { memoryCaState } from '../../support/memory-ca-state.ts';
import { runProgram } from '../../support/process.ts';
import { silentLog } from '../../support/silent-log.ts';
import { simulatedClock } from '../../support/simulated-clock.ts';
import { tempFolder } from '../../support/temp.ts';

const trustDomain = parseTrustDomain('example.org');
const never = new AbortController().signal;
const day = 86_400_000;
const year = 365 * day;

function options(fields: Partial<BuiltinAuthorityOptions> = {}): BuiltinAuthorityOptions {
  return {
    name: 'builtin',
    trustDomain,
    state: memoryCaState(),
    seal: keySealFromKey(newKeyEncryptionKey()),
    clock: systemClock,
    log: silentLog,
    ...fields,
  };
}

authoritySuite({
  name: 'builtin',
  trustDomain,
  intermediates: 1,
  make() {
    const same = options();
    return Promise.resolve({ open: () => openBuiltinAuthority(same), dispose: () => Promise.resolve() });
  },
});

describe('the built-in CA', () => {
  it('has a root of ten years and an intermediate of one, backdated by an hour, both of the trust domain', async () => {
    const clock = simulatedClock();
    const authority = await openBuiltinAuthority(options({ clock }));
    const [root] = (await authority.anchors(never)).map(parseCertificate);
    const signed = await authority.sign(signingRequest(trustDomain, { notBefore: clock.now(), notAfter: clock.now() + day }), never);
    const [, intermediate] = signed.certificates.map(parseCertificate);
    assert.ok(root && intermediate);
    assert.deepEqual([root.notBefore, root.notAfter], [clock.now() - 3_600_000, clock.now() + 10 * year]);
    assert.deepEqual([intermediate.notBefore, intermediate.notAfter], [clock.now() - 3_600_000, clock.now() + year]);
    for (const ca of [root, intermediate]) assert.deepEqual(ca.uris, ['spiffe://example.org']);
    assert.equal(intermediate.pathLength, 0);
    assert.match(root.subjectText, /Signet root 2026-01-01 [0-9a-f]{6}/);
    assert.match(root.subjectText, /O=example\.org/);
    assert.equal(authority.issuersEnd(), intermediate.notAfter);
    await authority.close();
  });

  it('makes certificates that OpenSSL verifies', async () => {
    await using folder = await tempFolder();
    const authority = await openBuiltinAuthority(options());
    const { certificates } = await authority.sign(signingRequest(trustDomain), never);
    const pem = (der: Buffer | undefined): string => pemEncode('CERTIFICATE', der ?? Buffer.alloc(0));
    await writeFile(folder.file('root.pem'), pem((await authority.anchors(never))[0]));
    await writeFile(folder.file('intermediate.pem'), pem(certificates[1]));
    await writeFile(folder.file('leaf.pem'), pem(certificates[0]));
    for (const purpose of ['sslserver', 'sslclient']) {
      const trust = ['-CAfile', folder.file('root.pem'), '-untrusted', folder.file('intermediate.pem')];
      const ran = await runProgram('openssl', ['verify', '-x509_strict', '-purpose', purpose, ...trust, folder.file('leaf.pem')]);
      assert.equal(ran.code, 0, ran.stderr);
    }
    await authority.close();
  });

  it('keeps no private key in the clear: nothing in the store opens without the seal', async () => {
    const state = memoryCaState();
    const opened = options({ state });
    await (await openBuiltinAuthority(opened)).close();
    await assert.rejects(
      openBuiltinAuthority(options({ state })),
      (error) => error instanceof SignetError && error.code === 'KEY_UNSEALABLE',
    );
    const text = [...state.documents.values()].map(({ value }) => value.toString('latin1')).join();
    // The start of every P-256 key in PKCS#8, as PEM, base64 or bytes.
    assert.doesNotMatch(text, /PRIVATE KEY|MIGHAgEAMBMGByqGSM49/);
  });

  it('is one CA for replicas that start at the same moment on an empty store', async () => {
    const shared = options();
    const replicas = await Promise.all(Array.from({ length: 4 }, () => openBuiltinAuthority(shared)));
    const roots = await Promise.all(replicas.map((replica) => replica.anchors(never)));
    for (const root of roots) assert.deepEqual(root, roots[0]);
    const chains = await Promise.all(replicas.map((replica) => replica.sign(signingRequest(trustDomain), never)));
    assert.equal(new Set(chains.map(({ issuerKeyId }) => issuerKeyId)).size, 1);
    await Promise.all(replicas.map((replica) => replica.close()));
  });

  it('renews the intermediate at half of its life under the same root, and says so once', async () => {
    const clock = simulatedClock();
    const authority = await openBuiltinAuthority(options({ clock }));
    let changes = 0;
    authority.onChange(() => changes++);
    const ask = () => authority.sign(signingRequest(trustDomain, { notBefore: clock.now(), notAfter: clock.now() + day }), never);
    const root = await authority.anchors(never);
    const first = await ask();
    clock.advance(182 * day);
    assert.equal((await ask()).issuerKeyId, first.issuerKeyId, 'not before half-life');
    clock.advance(2 * day);
    await untilChanged(authority, ask);
    const second = await ask();
    assert.notEqual(second.issuerKeyId, first.issuerKeyId);
    assert.deepEqual(await authority.anchors(never), root);
    verifyChain(second.certificates, root, clock.now());
    verifyChain(first.certificates.slice(1), root, clock.now());
    const names = [first, second].map(({ certificates }) => parseCertificate(certificates[1] ?? Buffer.alloc(0)).subjectText);
    assert.notEqual(names[0], names[1], 'each generation has a subject of its own');
    assert.equal(changes, 1);
    await authority.close();
  });

  it('comes back after years: the intermediate has ended, the next certificate is under a new one', async () => {
    const clock = simulatedClock();
    const same = options({ clock });
    const before = await openBuiltinAuthority(same);
    await before.close();
    clock.advance(3 * year);
    for (const authority of [await openBuiltinAuthority(same), before]) {
      const { certificates } = await authority.sign(
        signingRequest(trustDomain, { notBefore: clock.now(), notAfter: clock.now() + day }),
        never,
      );
      verifyChain(certificates, await authority.anchors(never), clock.now());
      await authority.close();
    }
  });

  it('follows the renewal of another replica instead of making a second one', async () => {
    const clock = simulatedClock();
    const state = memoryCaState();
    const shared = options({ clock, state });
    const [one, two] = [await openBuiltinAuthority(shared), await openBuiltinAuthority(shared)];
    clock.advance(200 * day);
    const ask = (from: typeof one) => () =>
      from.sign(signingRequest(trustDomain, { notBefore: clock.now(), notAfter: clock.now() + day }), never);
    await untilChanged(one, ask(one));
    await untilChanged(two, ask(two));
    assert.equal((await ask(one)()).issuerKeyId, (await ask(two)()).issuerKeyId);
    assert.equal(state.documents.get('ca/backend/builtin')?.epoch, 2);
    await one.close();
    await two.close();
  });

  it('keeps signing under the old intermediate while the store refuses the new one, and recovers', async () => {
    const clock = simulatedClock();
    const good = memoryCaState();
    let broken = false;
    const state: CaState = {
      read: (name) => (broken ? Promise.reject(new SignetError('INTERNAL', 'the store failed')) : good.read(name)),
      compareAndSet: (name, expected, value) => good.compareAndSet(name, expected, value),
    };
    const failed = Promise.withResolvers<undefined>();
    const log = {
      ...silentLog,
      error: () => {
        failed.resolve(undefined);
      },
    };
    const authority = await openBuiltinAuthority(options({ clock, state, log }));
    const ask = () => authority.sign(signingRequest(trustDomain, { notBefore: clock.now(), notAfter: clock.now() + day }), never);
    const before = await ask();
    clock.advance(200 * day);
    broken = true;
    assert.equal((await ask()).issuerKeyId, before.issuerKeyId);
    await failed.promise;
    assert.equal((await ask()).issuerKeyId, before.issuerKeyId);
    assert.equal((await authority.health(never)).canSign, true);
    broken = false;
    clock.advance(day);
    await untilChanged(authority, ask);
    assert.notEqual((await ask()).issuerKeyId, before.issuerKeyId);
    await authority.close();
  });

  it('says when its root has ended, and signs nothing more', async () => {
    const clock = simulatedClock();
    const authority = await openBuiltinAuthority(options({ clock }));
    clock.advance(11 * year);
    assert.equal((await authority.health(never)).canSign, false);
    const asked = signingRequest(trustDomain, { notBefore: clock.now(), notAfter: clock.now() + day });
    await assert.rejects(authority.sign(asked, never), (error) => error instanceof SignetError && error.code === 'AUTHORITY_MISCONFIGURED');
    await authority.close();
  });

  it('refuses the state of another trust domain, and damaged state', async () => {
    const state = memoryCaState();
    const same = options({ state });
    await (await openBuiltinAuthority(same)).close();
    const code = (expected: string) => (error: unknown) => error instanceof SignetError && error.code === expected;
    await assert.rejects(openBuiltinAuthority({ ...same, trustDomain: parseTrustDomain('other.org') }), code('STORE_MISMATCH'));

    const document = state.documents.get('ca/backend/builtin');
    assert.ok(document);
    const whole = document.value;
    document.value = whole.subarray(0, 100);
    await assert.rejects(openBuiltinAuthority(same), code('STORE_CORRUPT'));
    // The intermediate of one CA under the root of another.
    const other = options();
    const otherState = memoryCaState();
    await (await openBuiltinAuthority({ ...other, state: otherState, seal: same.seal })).close();
    const mixed = {
      ...(JSON.parse(whole.toString()) as object),
      root: (JSON.parse(otherState.documents.get('ca/backend/builtin')?.value.toString() ?? '') as { root: object }).root,
    };
    document.value = Buffer.from(JSON.stringify(mixed));
    await assert.rejects(openBuiltinAuthority(same), code('STORE_CORRUPT'));
  });
});

/** Asks, which begins a renewal that is due, and waits until it is through. */
async function untilChanged(authority: Authority, ask: () => Promise<unknown>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const stop = authority.onChange(() => {
    resolve(undefined);
  });
  await ask();
  await promise;
  stop();
}
