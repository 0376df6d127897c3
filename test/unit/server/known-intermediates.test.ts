import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Authenticator, Credentials } from '../../../src/identity/authenticator.ts';
import { authenticationFailed } from '../../../src/identity/authentication-failure.ts';
import { openKnownIntermediates } from '../../../src/server/known-intermediates.ts';
import { failureOf } from '../../support/failure.ts';
import { memoryCaState } from '../../support/memory-ca-state.ts';
import { silentLog } from '../../support/silent-log.ts';

test('a certificate that TLS takes and our parser does not is refused by the authenticator, as opaquely as any other', async () => {
  const shown: Credentials[] = [];
  const strict: Authenticator = {
    authenticate(credentials) {
      shown.push(credentials);
      return Promise.reject(authenticationFailed('bad-certificate', 'not an acceptable certificate'));
    },
    stillProved: () => false,
    onChange: () => () => undefined,
  };
  const { completing } = await openKnownIntermediates(memoryCaState(), silentLog);
  const odd = Buffer.from('308000', 'hex');
  const credentials: Credentials = {
    token: undefined,
    peerChain: [odd],
    instanceHint: undefined,
    cluster: undefined,
    audiences: ['signet'],
  };
  const failure = await failureOf(Promise.resolve().then(() => completing(strict).authenticate(credentials, new AbortController().signal)));
  assert.equal(failure.code, 'UNAUTHENTICATED');
  assert.deepEqual(shown[0]?.peerChain, [odd]);
});
