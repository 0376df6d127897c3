import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { Authority } from '../../src/ca/authority.ts';
import { signingRequest } from '../../src/ca/conformance/authority-under-test.ts';
import { baoAppRole, baoPki } from '../support/engines/openbao-pki.ts';
import { eventually } from '../support/eventually.ts';
import { failureOf } from '../support/failure.ts';
import { foreignCa, foreignLeaf } from '../support/openssl.ts';
import { recordingLog } from '../support/recording-log.ts';
import { ecKey, signToken } from '../support/token-forge.ts';
import type { IssuerKey } from '../support/token-forge.ts';
import { checkSigned, signingPolicy, vaultTrustDomain, vaultWorld } from '../support/vault-world.ts';
import type { VaultWorld } from '../support/vault-world.ts';

const never = new AbortController().signal;
const tokenOf = (auth: Readonly<Record<string, unknown>>): string => z.string().parse(auth['client_token']);

describe('logging in at a real OpenBao', () => {
  let world: VaultWorld;
  before(async () => {
    world = await vaultWorld();
    const { bao } = world;
    await baoPki(bao, { trustDomain: vaultTrustDomain });
    await bao.api('POST', 'sys/policies/acl/signet', { policy: signingPolicy });
  });
  after(() => world[Symbol.asyncDispose]());

  async function signsWith(authority: Authority): Promise<void> {
    const asked = signingRequest(vaultTrustDomain);
    await checkSigned(authority, asked, await authority.sign(asked, never));
  }

  it('by a token in a file, which is renewed before it ends', async () => {
    const token = tokenOf(await world.bao.api('POST', 'auth/token/create', { policies: ['signet'], period: '4s' }));
    const authority = await world.open({ login: { type: 'token', tokenFile: await world.put('token', `${token}\n`) } });
    await sleep(9000);
    await signsWith(authority);
    await authority.close();
    // It isn't ours to give back.
    await world.bao.api('GET', 'auth/token/lookup-self', undefined, { token });
  });

  it('by a token that can not be renewed, and by the next one that is in the file', async () => {
    const make = async (): Promise<string> =>
      tokenOf(await world.bao.api('POST', 'auth/token/create', { policies: ['signet'], ttl: '4s', renewable: false }));
    const tokenFile = await world.put('short-token', await make());
    const authority = await world.open({ login: { type: 'token', tokenFile } });
    // Vault Agent writes the next one when about a third is left.
    await sleep(1500);
    await world.put('short-token', await make());
    await sleep(3500);
    await signsWith(authority);
    await authority.close();
  });

  it('by a root token, which never ends, without a word of renewal', async () => {
    const log = recordingLog();
    const authority = await world.open({ login: { type: 'token', tokenFile: await world.put('root-token', world.bao.rootToken) } }, log);
    await sleep(2000);
    await signsWith(authority);
    await authority.close();
    assert.deepEqual(log.lines, []);
  });

  describe('by a JWT, as Kubernetes login does it', () => {
    const key = ecKey('one');
    const claims = (seconds: number): Record<string, unknown> => {
      const now = Math.floor(Date.now() / 1000);
      return {
        iss: 'https://issuer.example',
        sub: 'system:serviceaccount:signet:signet',
        aud: 'vault',
        iat: now,
        nbf: now,
        exp: now + seconds,
      };
    };
    const jwt = (by: IssuerKey = key, seconds = 600): string => signToken(by, claims(seconds));

    before(async () => {
      const { bao } = world;
      await bao.api('POST', 'sys/auth/jwt', { type: 'jwt' });
      const pem = key.publicKey.export({ type: 'spki', format: 'pem' }).toString();
      await bao.api('POST', 'auth/jwt/config', { jwt_validation_pubkeys: [pem], bound_issuer: 'https://issuer.example' });
      await bao.api('POST', 'auth/jwt/role/signet', {
        role_type: 'jwt',
        user_claim: 'sub',
        bound_audiences: ['vault'],
        bound_subject: 'system:serviceaccount:signet:signet',
        clock_skew_leeway: -1,
        expiration_leeway: -1,
        token_policies: ['signet'],
        token_ttl: '4s',
        token_max_ttl: '8s',
      });
    });

    it('which is read anew for each login, as kubelet rotates it', async () => {
      const tokenFile = await world.put('jwt', jwt(key, 2));
      const authority = await world.open({ login: { type: 'jwt', role: 'signet', tokenFile } });
      await sleep(1000);
      await world.put('jwt', jwt());
      // The first JWT and the first token are long over by then.
      await sleep(10_000);
      await signsWith(authority);
      await authority.close();
    });

    it('and says what is wrong with it, without showing it', async () => {
      const bad = jwt(ecKey('two'));
      const error = await failureOf(world.open({ login: { type: 'jwt', role: 'signet', tokenFile: await world.put('bad-jwt', bad) } }));
      assert.equal(error.code, 'AUTHORITY_REFUSED');
      assert.match(error.message, /^vault \(Vault at https:.*POST auth\/jwt\/login was refused/);
      assert.ok(!error.message.includes(bad));
    });
  });

  it('by a client certificate, and by its successor in the same files', async () => {
    const { bao } = world;
    const ca = await foreignCa('Machines');
    await bao.api('POST', 'sys/auth/cert', { type: 'cert' });
    await bao.api('POST', 'auth/cert/certs/signet', {
      certificate: ca.certificate,
      allowed_uri_sans: 'spiffe://machines.example/signet',
      token_policies: ['signet'],
      token_ttl: '5s',
      token_max_ttl: '9s',
    });
    const put = async (): Promise<{ certificate: string; key: string }> => {
      const pair = await foreignLeaf(ca, { uri: 'spiffe://machines.example/signet' });
      return { certificate: await world.put('client.pem', pair.certificate), key: await world.put('client.key', pair.key) };
    };
    const files = await put();
    const authority = await world.open({ login: { type: 'certificate', role: 'signet', ...files } });
    await signsWith(authority);
    await put();
    await sleep(11_000);
    await signsWith(authority);
    await authority.close();

    const other = await foreignLeaf(ca, { uri: 'spiffe://machines.example/other' });
    const login = { certificate: await world.put('other.pem', other.certificate), key: await world.put('other.key', other.key) };
    assert.equal((await failureOf(world.open({ login: { type: 'certificate', ...login } }))).code, 'AUTHORITY_REFUSED');
  });

  it('in a namespace', async () => {
    const { bao } = world;
    const namespace = 'team';
    await bao.api('POST', `sys/namespaces/${namespace}`, {});
    await baoPki(bao, { trustDomain: vaultTrustDomain, namespace });
    const { roleId, secretId } = await baoAppRole(bao, { policy: signingPolicy, namespace });
    const login = { type: 'approle', roleIdFile: await world.put('n-role', roleId), secretIdFile: await world.put('n-secret', secretId) };
    const authority = await world.open({ namespace, login });
    await signsWith(authority);
    await authority.close();
    assert.equal((await failureOf(world.open({ login }))).code, 'AUTHORITY_REFUSED', 'outside of it nobody knows this role');
  });

  it('again, once, when the token was revoked; and gives its last token back', async () => {
    const { bao } = world;
    const { roleId, secretId } = await baoAppRole(bao, { name: 'revoked', policy: signingPolicy });
    const login = { type: 'approle', roleIdFile: await world.put('r-role', roleId), secretIdFile: await world.put('r-secret', secretId) };
    const tokens = async (): Promise<unknown[]> => z.array(z.unknown()).parse((await bao.api('LIST', 'auth/token/accessors'))['keys']);
    const before = (await tokens()).length;
    const log = recordingLog();
    const authority = await world.open({ login }, log);
    assert.equal((await tokens()).length, before + 1);
    await bao.api('PUT', 'sys/leases/revoke-prefix/auth/approle/login');
    // A token that is seconds old and not allowed is one with the wrong policies.
    await sleep(5500);
    // At once and for all of them, without an error.
    await Promise.all(Array.from({ length: 20 }, () => signsWith(authority)));
    assert.equal((await tokens()).length, before + 1, 'twenty who need a token share one login');
    await authority.close();
    assert.equal((await tokens()).length, before);
    for (const secret of [roleId, secretId]) assert.ok(!JSON.stringify(log.lines).includes(secret));
  });

  it('with a new secret id as soon as it is in the file; until then it says that the old one is refused', async () => {
    const { bao } = world;
    const { roleId, secretId } = await baoAppRole(bao, {
      name: 'gone',
      policy: signingPolicy,
      settings: { token_ttl: '2s', token_max_ttl: '2s' },
    });
    const login = { type: 'approle', roleIdFile: await world.put('g-role', roleId), secretIdFile: await world.put('g-secret', secretId) };
    const authority = await world.open({ login });
    await bao.api('POST', 'auth/approle/role/gone/secret-id/destroy', { secret_id: secretId });
    await sleep(3000);
    const answers = await Promise.all(Array.from({ length: 30 }, () => failureOf(authority.sign(signingRequest(vaultTrustDomain), never))));
    assert.deepEqual([...new Set(answers.map(({ code }) => code))], ['AUTHORITY_REFUSED']);
    for (const { message } of answers) assert.ok(!message.includes(secretId) && !message.includes(roleId));
    const { secretId: fresh } = await baoAppRole(bao, { name: 'gone', policy: signingPolicy });
    await world.put('g-secret', fresh);
    await eventually('signs again', async () => {
      await signsWith(authority);
      return true;
    });
    await authority.close();
  });
});

describe('a Vault that is not there, or not who it should be', () => {
  let world: VaultWorld;
  let login: object;
  before(async () => {
    world = await vaultWorld();
    await baoPki(world.bao, { trustDomain: vaultTrustDomain });
    login = { type: 'token', tokenFile: await world.put('token', world.bao.rootToken) };
  });
  after(() => world[Symbol.asyncDispose]());

  it('is no reason not to start; it is taken up when it comes', async () => {
    await world.bao.stop();
    const authority = await world.open({ login });
    assert.equal((await authority.health(never)).canSign, false);
    assert.equal((await failureOf(authority.anchors(never))).code, 'AUTHORITY_UNAVAILABLE');
    assert.equal((await failureOf(authority.sign(signingRequest(vaultTrustDomain), never))).code, 'AUTHORITY_UNAVAILABLE');
    await world.bao.start();
    const asked = signingRequest(vaultTrustDomain);
    await checkSigned(authority, asked, await authority.sign(asked, never));
    assert.equal((await authority.health(never)).canSign, true);
    await authority.close();
  });

  it('is misconfigured if its certificate is of another CA', async () => {
    const { certificate } = await foreignCa('Somebody');
    const error = await failureOf(world.open({ login, caFile: await world.put('other-ca.pem', certificate) }));
    assert.equal(error.code, 'AUTHORITY_MISCONFIGURED');
    assert.match(error.message, /caFile must hold the CA/);
  });

  it('is misconfigured if there is no such mount or issuer', async () => {
    for (const settings of [{ mount: 'nowhere' }, { issuer: 'nobody' }]) {
      const error = await failureOf(world.open({ login, ...settings }));
      assert.equal(error.code, 'AUTHORITY_MISCONFIGURED', error.message);
    }
  });
});
