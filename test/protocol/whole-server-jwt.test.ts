import assert from 'node:assert/strict';
import { createPublicKey, randomBytes, verify as verifySignature } from 'node:crypto';
import { globSync, readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLocalJWKSet, decodeProtectedHeader, jwtVerify } from 'jose';
import type { JSONWebKeySet, JWTPayload } from 'jose';
import { systemClock } from '../../src/base/clock.ts';
import { keySealFromKey } from '../../src/ca/key-seal.ts';
import { parseTrustDomain } from '../../src/spiffe/id.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite-store.ts';
import { decodeJwtKeyRing } from '../../src/trust/jwt-key-document.ts';
import { openJwtKey } from '../../src/trust/jwt-key.ts';
import { privateKeyPem } from '../../src/x509/keys.ts';
import { findPrivateKey } from '../support/key-detector.ts';
import { silentLog } from '../support/silent-log.ts';
import { serverProcess } from '../support/whole-server-process.ts';
import { certificateChannel, idOf, web, wholeFolder, wholeServer } from '../support/whole-server.ts';
import type { Doors, Pod, WholeFolder, WholeServer } from '../support/whole-server.ts';

const issuer = 'https://oidc.example.org/mesh';

interface Svid {
  readonly svid: string;
  readonly spiffe_id: string;
  readonly issued_at: number;
  readonly expires_at: number;
}

interface Bundle {
  readonly bundles: readonly { readonly trust_domain: string; readonly jwks: Buffer; readonly sequence: number }[];
  readonly refresh_hint_seconds: number;
}

type Server = Pick<WholeServer, 'folder'> & { readonly doors: Doors };

async function signedFor(whole: Server, pod: Pod, audience: readonly string[] = ['db'], spiffe_id = ''): Promise<Svid> {
  return (await whole.doors.workload.call('SignJwtSvid', { audience, spiffe_id }, whole.folder.bearer(pod))) as Svid;
}

async function bundleOf(whole: Server, pod: Pod = web): Promise<Bundle> {
  return (await whole.doors.workload.call('GetJwtBundle', {}, whole.folder.bearer(pod))) as Bundle;
}

function keysIn({ bundles }: Bundle): JSONWebKeySet {
  return JSON.parse(bundles[0]?.jwks.toString() ?? '') as JSONWebKeySet;
}

/** jose knows `sig` alone; SPIFFE says `jwt-svid`. */
function forJose({ keys }: JSONWebKeySet): JSONWebKeySet {
  return { keys: keys.map((key) => ({ ...key, use: 'sig' })) };
}

/** As an OpenID Connect relying party finds the keys; the proxy that has the public name passes paths below it on as they are. */
async function discovered(whole: WholeServer): Promise<JSONWebKeySet> {
  const behindProxy = (url: string): string => url.replace(issuer, `http://${whole.httpAddress}`);
  const document = (await (await fetch(behindProxy(`${issuer}/.well-known/openid-configuration`))).json()) as {
    readonly issuer: string;
    readonly jwks_uri: string;
    readonly id_token_signing_alg_values_supported: readonly string[];
  };
  assert.equal(document.issuer, issuer);
  assert.deepEqual(document.id_token_signing_alg_values_supported, ['ES256']);
  return (await (await fetch(behindProxy(document.jwks_uri))).json()) as JSONWebKeySet;
}

describe('a JWT-SVID', () => {
  let whole: WholeServer;
  before(async () => {
    whole = await wholeServer({ jwt: { issuer } });
  });
  after(() => whole[Symbol.asyncDispose]());

  it('says who its caller is, to whom, and for how long; the bundle verifies it, and nothing else', async () => {
    const svid = await signedFor(whole, web, ['db', 'spiffe://example.org/ns/shop/sa/db']);
    const bundle = await bundleOf(whole);
    assert.deepEqual([bundle.bundles[0]?.trust_domain, bundle.refresh_hint_seconds], ['spiffe://example.org', 300]);
    assert.ok(keysIn(bundle).keys.every(({ use, kty, kid, d }) => use === 'jwt-svid' && kty === 'EC' && kid && d === undefined));
    const { payload, protectedHeader } = await jwtVerify(svid.svid, createLocalJWKSet(forJose(keysIn(bundle))), {
      audience: 'db',
      subject: idOf(web),
      issuer,
      algorithms: ['ES256'],
    });
    assert.deepEqual(Object.keys(protectedHeader).toSorted(), ['alg', 'kid', 'typ']);
    assert.deepEqual([protectedHeader.alg, protectedHeader.typ], ['ES256', 'JWT']);
    assert.deepEqual(payload.aud, ['db', 'spiffe://example.org/ns/shop/sa/db']);
    assert.equal(svid.spiffe_id, idOf(web));
    assert.deepEqual([payload.iat, payload.exp], [svid.issued_at, svid.expires_at]);
    assert.equal(svid.expires_at - svid.issued_at, 300);
    assert.ok(Math.abs(svid.issued_at * 1000 - Date.now()) < 60_000);
    assert.deepEqual(Object.keys(payload).toSorted(), ['aud', 'exp', 'iat', 'iss', 'jti', 'sub']);
    await assert.rejects(jwtVerify(`${svid.svid.slice(0, -4)}AAAA`, createLocalJWKSet(forJose(keysIn(bundle)))));
    assert.notEqual((await signedFor(whole, web)).svid, svid.svid);
  });

  it('is verified through OpenID discovery, with documents that may be kept for one refresh hint', async () => {
    const { svid } = await signedFor(whole, web, ['sts.amazonaws.com']);
    const keys = await discovered(whole);
    assert.ok(keys.keys.every(({ use, alg }) => use === 'sig' && alg === 'ES256'));
    const { payload } = await jwtVerify(svid, createLocalJWKSet(keys), { audience: 'sts.amazonaws.com', issuer });
    assert.equal(payload.sub, idOf(web));
    const { headers } = await fetch(`http://${whole.httpAddress}/keys`);
    assert.deepEqual([headers.get('cache-control'), headers.get('content-type')], ['public, max-age=300', 'application/json']);
  });

  it('has the form of node:crypto, too: r and s side by side', async () => {
    const { svid } = await signedFor(whole, web);
    const [header = '', payload = '', signature = ''] = svid.split('.');
    const jwk = keysIn(await bundleOf(whole)).keys.find(({ kid }) => kid === decodeProtectedHeader(svid).kid);
    assert.ok(jwk);
    const key = createPublicKey({ key: { ...jwk }, format: 'jwk' });
    const bytes = Buffer.from(signature, 'base64url');
    assert.equal(bytes.length, 64);
    assert.ok(verifySignature('sha256', Buffer.from(`${header}.${payload}`), { key, dsaEncoding: 'ieee-p1363' }, bytes));
  });

  it('is given to a certificate as well as to a token, and never outlives what it was given for', async () => {
    const channel = await certificateChannel(whole, web);
    const byCertificate = (await whole.doors.workloadAs(channel).call('SignJwtSvid', { audience: ['db'] })) as Svid;
    assert.equal(byCertificate.spiffe_id, idOf(web));
    const ends = Math.floor(Date.now() / 1000) + 40;
    const short = (await whole.doors.workload.call('SignJwtSvid', { audience: ['db'] }, whole.folder.bearer(web, { exp: ends }))) as Svid;
    assert.equal(short.expires_at, ends);
  });

  it('may be asked for by name, by its owner alone; of another nobody learns whether it exists', async () => {
    assert.equal((await signedFor(whole, web, ['db'], idOf(web))).spiffe_id, idOf(web));
    const others = [
      idOf({ serviceAccount: 'admin' }),
      'spiffe://example.org/signet/server',
      'spiffe://other.org/ns/shop/sa/web',
      `${idOf(web)}/`,
      'web',
      'x'.repeat(100_000),
    ];
    const refusals = await Promise.all(
      others.map((spiffe_id) => whole.doors.workload.refused('SignJwtSvid', { audience: ['db'], spiffe_id }, whole.folder.bearer(web))),
    );
    assert.deepEqual(
      new Set(refusals.map(({ code, reason, details }) => `${String(code)} ${String(reason)} ${details}`)),
      new Set(['7 PERMISSION_DENIED a JWT-SVID is for its own caller alone: ask for your SPIFFE ID, or for none']),
    );
  });

  const audiences: readonly (readonly [what: string, audience: readonly string[], says: RegExp])[] = [
    ['none', [], /needs an audience/],
    ['an empty one', ['db', ''], /^audience\[1\] is empty$/],
    ['17', Array.from({ length: 17 }, (_, i) => `db-${String(i)}`), /^audience has 17 entries; at most 16/],
    ['10,000', Array.from({ length: 10_000 }, (_, i) => `db-${String(i)}`), /^audience has 10000 entries/],
    ['one of 2,049 characters', ['x'.repeat(2049)], /^audience\[0\] is longer than 2048/],
    ['one of 200,000 characters', ['x'.repeat(200_000)], /^audience\[0\] is longer than 2048/],
    ['three of 2,000 characters', ['a', 'b', 'c'].map((letter) => letter.repeat(2000)), /together/],
    ['one with a line break', ['db\nadmin'], /^audience\[0\] has control characters$/],
    ['one with a NUL', ['db\0'], /^audience\[0\] has control characters$/],
    ['a token', ['eyJhbGciOiJFUzI1NiJ9.e30.c2ln'], /^audience\[0\] is a token/],
  ];
  for (const [what, audience, says] of audiences) {
    it(`for audiences like ${what}: INVALID_ARGUMENT`, async () => {
      const { code, reason, details } = await whole.doors.workload.refused('SignJwtSvid', { audience }, whole.folder.bearer(web));
      assert.deepEqual({ code, reason }, { code: 3, reason: 'INVALID_ARGUMENT' });
      assert.match(details, says);
      assert.ok(details.length < 200, 'nothing of what was sent comes back');
    });
  }

  it('for an audience of 1 MB: RESOURCE_EXHAUSTED', async () => {
    const huge = { audience: ['x'.repeat(1024 * 1024)] };
    assert.equal((await whole.doors.workload.refused('SignJwtSvid', huge, whole.folder.bearer(web))).code, 8);
  });

  it('without a credential, with a bad one, or one that has ended: refused before anything else, bundles too', async () => {
    const now = Math.floor(Date.now() / 1000);
    const [head = '', body = ''] = whole.folder.token(web).split('.');
    for (const method of ['SignJwtSvid', 'GetJwtBundle']) {
      for (const authorization of ['', 'Bearer x', `Bearer ${head}.${body}.${'A'.repeat(86)}`]) {
        const refusal = await whole.doors.workload.refused(method, {}, authorization === '' ? {} : { authorization });
        assert.deepEqual([refusal.code, refusal.reason, refusal.details], [16, 'UNAUTHENTICATED', 'authentication failed']);
      }
      const old = whole.folder.bearer(web, { iat: now - 7200, nbf: now - 7200, exp: now - 3600 });
      assert.equal((await whole.doors.workload.refused(method, {}, old)).reason, 'TOKEN_EXPIRED');
      const forIstio = whole.folder.bearer(web, { aud: ['istio-ca'] });
      assert.equal((await whole.doors.workload.refused(method, {}, forIstio)).reason, 'UNAUTHENTICATED');
    }
  });

  it('is no credential here: the server does not believe its own tokens', async () => {
    const { svid } = await signedFor(whole, web, ['signet']);
    const metadata = { authorization: `Bearer ${svid}` };
    assert.equal((await whole.doors.workload.refused('SignJwtSvid', { audience: ['db'] }, metadata)).reason, 'UNAUTHENTICATED');
  });

  it('is not given to an identity that was stopped, nor is the bundle, until that is lifted', async () => {
    const pod = { serviceAccount: 'stopped' };
    await signedFor(whole, pod);
    await whole.doors.admin.call('DenyIdentity', { spiffe_id: idOf(pod), reason: 'test' });
    for (const method of ['SignJwtSvid', 'GetJwtBundle']) {
      const { code, reason } = await whole.doors.workload.refused(method, { audience: ['db'] }, whole.folder.bearer(pod));
      assert.deepEqual({ code, reason }, { code: 7, reason: 'IDENTITY_DENIED' });
    }
    await whole.doors.admin.call('LiftDenial', { spiffe_id: idOf(pod) });
    await signedFor(whole, pod);
  });

  it('is counted, and so is the age of its key', async () => {
    const page = await (await fetch(`http://${whole.httpAddress}/metrics`)).text();
    assert.match(page, /^signet_jwt_svids_issued_total [1-9]\d*$/m);
    assert.match(page, /^signet_jwt_key_age_seconds\{state="active"\} \d/m);
    assert.match(page, /^signet_requests_total\{method="signet.v1.CertificateService\/SignJwtSvid",code="INVALID_ARGUMENT"\} \d+$/m);
  });
});

it('each identity has its own rate', async () => {
  await using whole = await wholeServer({ limits: { issuancePerSecond: 0.01, issuanceBurst: 2 } });
  for (let i = 0; i < 2; i++) await signedFor(whole, web);
  const { code, reason } = await whole.doors.workload.refused('SignJwtSvid', { audience: ['db'] }, whole.folder.bearer(web));
  assert.deepEqual({ code, reason }, { code: 8, reason: 'RATE_LIMITED' });
  await signedFor(whole, { serviceAccount: 'other' });
});

it('without a configured issuer no token has one, and there is nothing to discover', async () => {
  await using whole = await wholeServer();
  const { svid } = await signedFor(whole, web);
  const { payload } = await jwtVerify(svid, createLocalJWKSet(forJose(keysIn(await bundleOf(whole)))));
  assert.equal(payload.iss, undefined);
  for (const path of ['/.well-known/openid-configuration', '/keys']) {
    assert.equal((await fetch(`http://${whole.httpAddress}${path}`)).status, 404);
  }
});

describe('the signing key', () => {
  it('survives a restart, is sealed on the disk, and opens with the right key-encryption key alone', async () => {
    await using whole = await wholeServer();
    const before = await signedFor(whole, web);
    const { keyId, pem } = await signingKey(whole);
    assert.equal(decodeProtectedHeader(before.svid).kid, keyId);
    const files = globSync('**', { cwd: whole.folder.data, withFileTypes: true }).filter((entry) => entry.isFile());
    assert.ok(files.some(({ name }) => name === 'signet.db'));
    const contents = files.map(({ parentPath, name }) => readFileSync(`${parentPath}/${name}`));
    assert.ok(findPrivateKey([Buffer.from(pem)], pem).size > 0, 'the detector fires where the key is');
    assert.deepEqual([...findPrivateKey(contents, pem)], []);

    await whole.start();
    await jwtVerify(before.svid, createLocalJWKSet(forJose(keysIn(await bundleOf(whole)))));
    assert.equal(decodeProtectedHeader((await signedFor(whole, web)).svid).kid, keyId);
    await whole.stop();

    const kek = whole.folder.temp.file('kek');
    const right = await readFile(kek);
    await writeFile(kek, randomBytes(32).toString('base64'));
    await assert.rejects(whole.start(), { code: 'KEY_UNSEALABLE' });
    await writeFile(kek, right);
    await whole.start();
    assert.equal(decodeProtectedHeader((await signedFor(whole, web)).svid).kid, keyId);
  });

  it('changes while tokens are signed and verified, and no verifier that obeys the hint ever lacks it', async () => {
    await using whole = await wholeServer({ jwt: { issuer, ttl: '2s', keyLife: '12s', refreshHint: '1s' } });
    const keyIds = new Set<string>();
    let kept = await discovered(whole);
    let keptAt = Date.now();
    let verified = 0;
    for (const end = Date.now() + 60_000; keyIds.size < 2 && Date.now() < end; ) {
      // The verifier asks once in a hint, and not before.
      if (Date.now() - keptAt >= 1000) [kept, keptAt] = [await discovered(whole), Date.now()];
      const { svid } = await signedFor(whole, web);
      const { payload }: { payload: JWTPayload } = await jwtVerify(svid, createLocalJWKSet(kept), { issuer, clockTolerance: 30 });
      assert.equal(payload.sub, idOf(web));
      keyIds.add(decodeProtectedHeader(svid).kid ?? '');
      verified++;
      await sleep(100);
    }
    assert.equal(keyIds.size, 2, `${String(verified)} tokens were verified`);
    assert.ok(kept.keys.length >= 2);
  });

  /** Stops the server, and opens the key as the server does. */
  async function signingKey(whole: WholeServer): Promise<{ keyId: string; pem: string }> {
    const seal = keySealFromKey(await readFile(whole.folder.temp.file('kek'), 'utf8'));
    await whole.stop();
    const store = await openSqliteStore({ file: `${whole.folder.data}/signet.db`, clock: systemClock, log: silentLog });
    try {
      const entry = await store.trust.read('jwt-signing-keys');
      assert.ok(entry);
      const { active } = decodeJwtKeyRing(entry.value, parseTrustDomain('example.org'));
      return { keyId: active.key.keyId, pem: privateKeyPem(openJwtKey(seal, active.key)) };
    } finally {
      await store.close();
    }
  }
});

it('a token is in no log; its id is, and the audit trail says who can speak to whom, once for each key', async () => {
  await using folder = await wholeFolder({ log: { level: 'debug' } });
  const tokens: string[] = [];
  let stderr: string;
  {
    await using server = await serverProcess(folder);
    const whole: { readonly folder: WholeFolder; readonly doors: Doors } = { folder, doors: server.doors };
    for (let i = 0; i < 3; i++) tokens.push((await signedFor(whole, web, ['db', 'cache'])).svid);
    await server.doors.workload.refused('SignJwtSvid', { audience: [tokens[0] ?? ''] }, folder.bearer(web));
    await server.end('SIGTERM');
    stderr = server.stderr();
  }
  for (const token of tokens) {
    const [, payload = '', signature = ''] = token.split('.');
    assert.ok(!stderr.includes(payload) && !stderr.includes(signature));
    const { jti = '' } = JSON.parse(Buffer.from(payload, 'base64url').toString()) as JWTPayload;
    assert.match(jti, /^[A-Za-z0-9_-]{22}$/);
    assert.ok(stderr.includes(jti), 'what was issued can be found');
  }
  const database = readFileSync(`${folder.data}/signet.db`).toString('latin1');
  for (const token of tokens) assert.ok(!database.includes(token.split('.')[2] ?? ''), 'nor is it in the store');
  const store = await openSqliteStore({ file: `${folder.data}/signet.db`, clock: systemClock, log: silentLog });
  try {
    const entries = (await store.audit.list(100)).items.filter(({ action }) => action === 'jwt.issue');
    assert.deepEqual(
      entries.map(({ actor, subject, detail }) => ({ actor, subject, detail })),
      [
        {
          actor: 'cluster system:serviceaccount:shop:web',
          subject: idOf(web),
          detail: `key ${String(decodeProtectedHeader(tokens[0] ?? '').kid)} audience db cache`,
        },
      ],
    );
  } finally {
    await store.close();
  }
});
