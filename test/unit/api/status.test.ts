import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import protobuf from 'protobufjs';
import { encodeErrorDetails } from '../../../src/base/error-details.ts';
import { toStatus } from '../../../src/api/status.ts';
import { SignetError } from '../../../src/base/errors.ts';

// The messages as Google publishes them (googleapis, google/rpc), for an encoder that shares nothing with ours.
const { root } = protobuf.parse(`syntax = "proto3"; package google.rpc;
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message RetryInfo { Duration retry_delay = 1; }`);

function decode(type: string, bytes: Uint8Array): Record<string, unknown> {
  const message = root.lookupType(`google.rpc.${type}`);
  return message.toObject(message.decode(bytes), { longs: Number, defaults: true, arrays: true, objects: true, bytes: Buffer });
}

interface Any {
  readonly type_url: string;
  readonly typeUrl: string;
  readonly value: Buffer;
}

function detailsOf(bytes: Uint8Array): {
  readonly status: Record<string, unknown>;
  readonly byType: ReadonlyMap<string, Record<string, unknown>>;
} {
  const status = decode('Status', bytes);
  const byType = new Map(
    (status.details as readonly Any[]).map(({ typeUrl, value }) => {
      const type = typeUrl.replace('type.googleapis.com/google.rpc.', '');
      return [type, decode(type, value)] as const;
    }),
  );
  return { status, byType };
}

describe('google.rpc.Status', () => {
  it("says in bytes what Google's own messages say", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 16 }),
        fc.string({ unit: 'grapheme' }),
        fc.string(),
        fc.dictionary(fc.string(), fc.string(), { maxKeys: 5 }),
        fc.option(fc.integer({ min: 0, max: 10_000_000_000 }), { nil: undefined }),
        (code, message, reason, metadata, retryAfterMs) => {
          const plain = Object.fromEntries(Object.entries(metadata).filter(([key]) => key !== '__proto__'));
          const { status, byType } = detailsOf(encodeErrorDetails({ code, message, reason, metadata: plain, retryAfterMs }));
          assert.equal(status.code, code);
          assert.equal(status.message, message);
          assert.deepEqual(byType.get('ErrorInfo'), { reason, domain: 'signet.dev', metadata: plain });
          const delay = byType.get('RetryInfo')?.retryDelay as { seconds: number; nanos: number } | undefined;
          assert.equal(delay && delay.seconds * 1000 + delay.nanos / 1_000_000, retryAfterMs);
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('the status of an error', () => {
  it('of ours has its number, message and code, and when to try again', () => {
    const { code, details, metadata } = toStatus(new SignetError('RATE_LIMITED', 'too many', { retryAfterMs: 1500 }));
    assert.deepEqual([code, details], [8, 'too many']);
    const { byType } = detailsOf(metadata.get('grpc-status-details-bin')[0] as Buffer);
    assert.equal(byType.get('ErrorInfo')?.reason, 'RATE_LIMITED');
    assert.deepEqual(byType.get('RetryInfo'), { retryDelay: { seconds: 1, nanos: 500_000_000 } });
  });

  it("of somebody else's says nothing of it", () => {
    const { code, details, metadata } = toStatus(new Error('password=hunter2 at /etc/x'));
    assert.deepEqual([code, details], [13, 'internal error']);
    assert.doesNotMatch((metadata.get('grpc-status-details-bin')[0] as Buffer).toString('latin1'), /hunter2/);
  });

  it('of a refused credential is the same for all reasons, but for one that has expired', () => {
    const words = ['unknown kid', 'bad signature'].map((text) => toStatus(new SignetError('UNAUTHENTICATED', text)));
    assert.deepEqual(
      words.map(({ details }) => details),
      ['authentication failed', 'authentication failed'],
    );
    assert.match(toStatus(new SignetError('TOKEN_EXPIRED', 'the token expired at noon')).details, /noon/);
  });

  it('fits into a trailer, however long its message', () => {
    const { details, metadata } = toStatus(new SignetError('INVALID_CSR', 'x'.repeat(100_000)));
    assert.ok(details.length + (metadata.get('grpc-status-details-bin')[0] as Buffer).length < 4096);
  });
});
