import assert from 'node:assert/strict';
import { it } from 'node:test';
import { pinnedRoot } from '../../../src/agent/server-trust.ts';
import { SignetError } from '../../../src/base/errors.ts';
import { parseCertificate } from '../../../src/x509/certificate.ts';
import { certificatesFromPem } from '../../../src/x509/pem.ts';
import { foreignCa, foreignLeaf } from '../../support/openssl.ts';

it("a server is known by the pinned root at its chain's end, and a whole chain under another root is refused for its key", async () => {
  const ca = await foreignCa();
  const leaf = await foreignLeaf(ca, { uri: 'spiffe://example.org/signet/server', ip: '127.0.0.1' });
  const chain = [...certificatesFromPem(leaf.certificate).slice(0, 1), ...certificatesFromPem(ca.certificate)];
  const root = chain.at(-1);
  assert.ok(root);
  const pin = parseCertificate(root).spkiSha256;
  assert.deepEqual(certificatesFromPem(pinnedRoot(chain, new Set([pin]), '127.0.0.1:1', Date.now())), [root]);

  const why = (shown: readonly Buffer[], pins: readonly string[]) => {
    try {
      pinnedRoot(shown, new Set(pins), '127.0.0.1:1', Date.now());
    } catch (error) {
      assert.ok(error instanceof SignetError && error.code === 'AUTHORITY_UNAVAILABLE', String(error));
      return error.message;
    }
    throw new assert.AssertionError({ message: 'it was taken' });
  };
  assert.match(why(chain, ['0'.repeat(64)]), /another public key than the pinned one/);
  assert.match(why([], [pin]), /no certificate/);
  // The pinned key alone is no proof: the certificate before it must be signed by it.
  const [stranger] = certificatesFromPem((await foreignCa()).certificate);
  assert.ok(stranger);
  assert.match(why([stranger, root], [pin]), /does not verify/);
});
