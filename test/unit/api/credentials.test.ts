import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { credentialsFrom } from '../../../src/api/credentials.ts';
import { SignetError } from '../../../src/base/errors.ts';

function tokenOf(authorization: string): string | undefined {
  return credentialsFrom({ header: (key) => (key === 'authorization' ? authorization : undefined), peerChain: () => [] }, []).token;
}

function refused(authorization: string): void {
  assert.throws(() => tokenOf(authorization), { code: 'UNAUTHENTICATED', message: 'authentication failed' });
}

describe('a token in authorization', () => {
  it('may have a scheme of any case, white space around it, or no scheme (Envoy 1.36)', () => {
    for (const text of ['Bearer a.b.c', 'bearer a.b.c', 'BEARER  a.b.c', ' Bearer\ta.b.c \t', 'a.b.c', 'a.b.c '])
      assert.equal(tokenOf(text), 'a.b.c');
  });

  it('is nothing else: no other scheme, no second token, no line feed within, not the scheme alone', () => {
    for (const text of ['', ' ', 'Bearer', 'bearer ', 'Bearer Bearer', 'Basic a.b.c', 'Bearer a b', 'Bearer a,b', 'a\nb', 'Bearer é'])
      refused(text);
  });

  it('has at most 16 KiB', () => {
    assert.equal(tokenOf(`Bearer ${'a'.repeat(16 * 1024)}`)?.length, 16 * 1024);
    refused('a'.repeat(16 * 1024 + 1));
    refused(`Bearer ${'a'.repeat(16 * 1024 + 1)}`);
    refused('a'.repeat(10_000_000));
  });

  it('never comes out with a character that no token has, whatever goes in', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.string({ unit: 'binary' }),
          fc.base64String().map((text) => `Bearer ${text}`),
        ),
        (text) => {
          try {
            assert.match(tokenOf(text) ?? '', /^[A-Za-z0-9._~+/-]+=*$/);
          } catch (error) {
            assert.ok(error instanceof SignetError && error.code === 'UNAUTHENTICATED', String(error));
            assert.equal(error.message, 'authentication failed');
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  it('that is broken is refused, although there is a certificate too', () => {
    const shown = { header: () => 'Bearer !', peerChain: () => [Buffer.from('certificate')] };
    assert.throws(() => credentialsFrom(shown, []), { code: 'UNAUTHENTICATED' });
  });
});

it('without authorization there is a certificate and a hint, or nothing', () => {
  const peerChain = [Buffer.from('certificate')];
  assert.deepEqual(
    credentialsFrom({ header: (key) => (key === 'x-signet-instance' ? 'a' : undefined), peerChain: () => peerChain }, ['signet']),
    {
      token: undefined,
      peerChain,
      instanceHint: 'a',
      cluster: undefined,
      audiences: ['signet'],
    },
  );
});
