/** OpenSSL and Java's keytool read our PKCS#12 files, and find in them what was put there. */
import assert from 'node:assert/strict';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { certificatesFromPem } from '../../src/x509/pem.ts';
import { keyStore, trustStore } from '../../src/x509/pkcs12.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import type { KeyAlgorithm } from '../../src/x509/keys.ts';
import { runProgram } from '../support/process.ts';
import type { Ran } from '../support/process.ts';
import { tempFolder } from '../support/temp.ts';
import type { TempFolder } from '../support/temp.ts';
import { testPki } from '../support/test-pki.ts';

const password = 'change it: "$HOME" \\ ~';

async function stores(temp: TempFolder, algorithm?: KeyAlgorithm) {
  const pki = await testPki();
  const client = await pki.client('spiffe://td.test/ns/shop/sa/web');
  const key = algorithm ? generateKeyPair(algorithm).privateKey : createPrivateKey(client.keyPem);
  const chain = certificatesFromPem(client.certificatePem) as [Buffer, Buffer];
  const [keys, trust, secret] = [temp.file('keystore.p12'), temp.file('truststore.p12'), temp.file('password')];
  await writeFile(keys, keyStore({ key, chain, name: 'workload' }, password));
  await writeFile(trust, trustStore([pki.root, (await testPki('other')).root], password));
  await writeFile(secret, password);
  return { keys, trust, secret, key, chain };
}

const keytool = async (file: string, secret: string): Promise<Ran> =>
  runProgram('keytool', ['-J-Duser.language=en', '-list', '-v', '-storetype', 'PKCS12', '-keystore', file, '-storepass:file', secret]);

describe('a PKCS#12 file of ours', () => {
  for (const algorithm of ['ec-p256', 'ec-p384'] as const) {
    it(`gives OpenSSL back a key of ${algorithm}`, async () => {
      await using temp = await tempFolder();
      const { keys, secret, key } = await stores(temp, algorithm);
      const ran = await runProgram('openssl', ['pkcs12', '-in', keys, '-info', '-nocerts', '-noenc', '-passin', `file:${secret}`]);
      assert.equal(ran.code, 0, ran.stderr);
      assert.ok(createPrivateKey(ran.stdout).equals(key));
      assert.match(ran.stderr, /MAC: sha256, Iteration 2048/);
      assert.match(ran.stderr, /Shrouded Keybag: PBES2, PBKDF2, AES-256-CBC, Iteration 2048, PRF hmacWithSHA256/);
    });
  }

  it('gives OpenSSL the chain in its order, the leaf tied to the key, and nothing to a wrong password', async () => {
    await using temp = await tempFolder();
    const { keys, secret, chain, key } = await stores(temp);
    const leaf = await runProgram('openssl', ['pkcs12', '-in', keys, '-clcerts', '-nokeys', '-passin', `file:${secret}`]);
    assert.ok(new X509Certificate(leaf.stdout).raw.equals(chain[0]), leaf.stderr);
    assert.ok(new X509Certificate(leaf.stdout).checkPrivateKey(key));
    const all = await runProgram('openssl', ['pkcs12', '-in', keys, '-nokeys', '-passin', `file:${secret}`]);
    assert.deepEqual(certificatesFromPem(all.stdout), chain);
    const wrong = await runProgram('openssl', ['pkcs12', '-in', keys, '-noenc', '-passin', 'pass:changeit']);
    assert.notEqual(wrong.code, 0);
    assert.match(wrong.stderr, /invalid password/);
  });

  it('is a key entry with its chain to Java', async () => {
    await using temp = await tempFolder();
    const { keys, secret, chain } = await stores(temp);
    const ran = await keytool(keys, secret);
    assert.equal(ran.code, 0, ran.stdout);
    assert.match(ran.stdout, /Your keystore contains 1 entry/);
    assert.match(ran.stdout, /Alias name: workload\n[^]*Entry type: PrivateKeyEntry\nCertificate chain length: 2/);
    for (const certificate of chain) assert.ok(ran.stdout.includes(new X509Certificate(certificate).fingerprint256));
    // That Java can also decrypt the key: it makes a request that is signed with it.
    const request = await runProgram('keytool', [
      ...['-certreq', '-alias', 'workload', '-storetype', 'PKCS12', '-keystore', keys, '-storepass:file', secret],
    ]);
    assert.equal(request.code, 0, request.stdout + request.stderr);
    const verified = await runProgram('openssl', ['req', '-verify', '-noout', '-pubkey'], { input: request.stdout });
    assert.equal(verified.stdout.trim(), new X509Certificate(chain[0]).publicKey.export({ type: 'spki', format: 'pem' }).toString().trim());
  });

  it('of anchors is a list of trusted certificates to Java', async () => {
    await using temp = await tempFolder();
    const { trust, secret } = await stores(temp);
    const ran = await keytool(trust, secret);
    assert.equal(ran.code, 0, ran.stdout);
    assert.match(ran.stdout, /Your keystore contains 2 entries/);
    assert.equal(ran.stdout.match(/Entry type: trustedCertEntry/g)?.length, 2);
  });

  it('has a password that Java can take, or is none', () => {
    for (const bad of ['short', 'with\nnewline', 'gr\u{fc}\u{df}e aus', 'x'.repeat(1001)])
      assert.throws(() => trustStore([], bad), { code: 'INVALID_ARGUMENT', message: /6 to 1000 characters of printable ASCII/ });
  });
});
