import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Metadata } from '@grpc/grpc-js';
import fc from 'fast-check';
import { remoteError } from '../../../src/api/remote-error.ts';
import { encodeErrorDetails } from '../../../src/base/error-details.ts';

function serviceError(code: number, details: string, trailer?: Buffer): Error {
  const metadata = new Metadata();
  if (trailer) metadata.set('grpc-status-details-bin', trailer);
  return Object.assign(new Error(details), { code, details, metadata });
}

describe('what a server answered', () => {
  it('is one of our errors again, with when to come back', () => {
    const trailer = encodeErrorDetails({ code: 8, message: 'slower', reason: 'RATE_LIMITED', metadata: { a: 'b' }, retryAfterMs: 2500 });
    const error = remoteError(serviceError(8, 'slower', trailer), 'a:1');
    assert.deepEqual([error.code, error.message, error.retryAfterMs], ['RATE_LIMITED', 'slower', 2500]);
    const never = encodeErrorDetails({ code: 8, message: 'never', reason: 'RATE_LIMITED', metadata: {}, retryAfterMs: 86_400_000 });
    assert.equal(remoteError(serviceError(8, 'never', never), 'a:1').retryAfterMs, 300_000);
    const plain = encodeErrorDetails({ code: 7, message: 'no', reason: 'PERMISSION_DENIED', metadata: {}, retryAfterMs: undefined });
    assert.equal(remoteError(serviceError(7, 'no', plain), 'a:1').retryAfterMs, undefined);
  });

  it('is that nobody is there where nobody of ours answered', () => {
    assert.equal(
      remoteError(serviceError(14, 'No connection established. Last error: connect ECONNREFUSED'), 'a:1').code,
      'AUTHORITY_UNAVAILABLE',
    );
    assert.equal(remoteError(serviceError(4, ''), 'a:1').code, 'DEADLINE_EXCEEDED');
  });

  it('is never more than an error, whatever the trailer holds', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        assert.equal(remoteError(serviceError(14, 'x', Buffer.from(bytes)), 'a:1').name, 'SignetError');
      }),
    );
  });
});
