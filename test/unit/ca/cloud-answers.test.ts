import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { ErrorCode } from '../../../src/base/errors.ts';
import { arnProblem, partitionOf, publicEndpoint, readArn } from '../../../src/ca/aws/aws-arn.ts';
import { awsFailure } from '../../../src/ca/aws/aws-failure.ts';
import { certificateCreation } from '../../../src/ca/gcp-cas/certificate-request.ts';
import { crc32c } from '../../../src/ca/gcp-kms/crc32c.ts';
import { googleFailure } from '../../../src/ca/google/google-failure.ts';
import { resourceNameProblem } from '../../../src/ca/google/resource-name.ts';
import { endpointProblem } from '../../../src/ca/remote/endpoint.ts';
import { retryAfterMs } from '../../../src/ca/remote/json-http.ts';
import { signingRequest } from '../../../src/ca/conformance/authority-under-test.ts';
import { parseTrustDomain } from '../../../src/spiffe/id.ts';

const key = 'arn:aws:kms:eu-west-1:123456789012:key/1f0f6a52-7c9f-4a0b-8a52-7f1f5a9f2c10';
const answer = (status: number, body: unknown, headers = {}) => ({ status, headers, body });

describe('what AWS answers', () => {
  const cases: readonly (readonly [number, string, ErrorCode])[] = [
    [400, 'ThrottlingException', 'AUTHORITY_THROTTLED'],
    [400, 'LimitExceededException', 'AUTHORITY_THROTTLED'],
    [400, 'AccessDeniedException', 'AUTHORITY_REFUSED'],
    [400, 'UnrecognizedClientException', 'AUTHORITY_REFUSED'],
    [400, 'MalformedCSRException', 'AUTHORITY_REFUSED'],
    [400, 'ResourceNotFoundException', 'AUTHORITY_MISCONFIGURED'],
    [400, 'InvalidStateException', 'AUTHORITY_MISCONFIGURED'],
    [400, 'com.amazonaws.kms#DisabledException', 'AUTHORITY_MISCONFIGURED'],
    [400, 'com.amazonaws.kms#KMSInvalidStateException:http://x', 'AUTHORITY_MISCONFIGURED'],
    [500, 'KMSInternalException', 'AUTHORITY_UNAVAILABLE'],
    [503, 'ServiceUnavailable', 'AUTHORITY_UNAVAILABLE'],
    [400, 'DependencyTimeoutException', 'AUTHORITY_UNAVAILABLE'],
  ];
  for (const [status, type, code] of cases) {
    it(`${String(status)} ${type} is ${code}`, () => {
      const { error } = awsFailure('kms:Sign', key, answer(status, { __type: type, message: 'arn:aws:iam::1:role/secret' }), undefined);
      assert.equal(error.code, code);
      assert.doesNotMatch(error.message, /role\/secret/);
      assert.match((error.cause as Error).message, /role\/secret/);
      assert.equal(error.retryAfterMs !== undefined, code === 'AUTHORITY_THROTTLED');
    });
  }

  it('may be anything at all: it is an error with one of four codes, and nothing of it is in the message', () => {
    fc.assert(
      fc.property(fc.integer({ min: 201, max: 599 }), fc.jsonValue(), fc.string(), (status, body, header) => {
        for (const error of [
          awsFailure('kms:Sign', key, answer(status, body, { 'x-amzn-errortype': `\u0007${header}` }), undefined).error,
          googleFailure('a.b', 'projects/p', answer(status, body), undefined),
        ]) {
          assert.match(error.code, /^AUTHORITY_(UNAVAILABLE|THROTTLED|REFUSED|MISCONFIGURED)$/);
          assert.match(error.message, /^[\x20-\x7e]*$/);
        }
      }),
    );
  });
});

describe('names in the clouds', () => {
  it('an ARN says where its service is, in each partition that has a public one', () => {
    const endpoint = (arn: string): string | undefined => {
      const place = readArn(arn);
      return place && publicEndpoint('kms', place)?.href;
    };
    assert.equal(endpoint(key), 'https://kms.eu-west-1.amazonaws.com/');
    assert.equal(endpoint(key.replace('aws:', 'aws-cn:').replace('eu-west-1', 'cn-north-1')), 'https://kms.cn-north-1.amazonaws.com.cn/');
    assert.equal(endpoint(key.replace('aws:', 'aws-iso:')), undefined);
    assert.deepEqual(['eu-west-1', 'cn-north-1', 'us-gov-west-1'].map(partitionOf), ['aws', 'aws-cn', 'aws-us-gov']);
  });

  it('an ARN of another service, kind or form is refused, and no host can be smuggled in', () => {
    assert.equal(arnProblem('kms', 'key', key), undefined);
    for (const bad of [
      key.replace('kms', 'acm-pca'),
      key.replace('key/', 'alias/'),
      `${key}\n`,
      key.replace('eu-west-1', 'evil.example/'),
      'x',
    ])
      assert.notEqual(arnProblem('kms', 'key', bad), undefined, bad);
  });

  it("a Google resource's name has its form, whatever is put in for its parts", () => {
    const form = 'projects/PROJECT/locations/LOCATION/caPools/POOL';
    fc.assert(
      fc.property(fc.string(), (part) => {
        const problem = resourceNameProblem(form, `projects/p/locations/${part}/caPools/c`);
        assert.equal(problem === undefined, /^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$/.test(part));
      }),
    );
  });

  it('an endpoint is https, but for an emulator on this machine', () => {
    for (const good of ['https://kms.internal', 'https://10.0.0.1:8443', 'http://127.0.0.1:4566', 'http://localhost:1', 'http://[::1]:1'])
      assert.equal(endpointProblem(good), undefined, good);
    for (const bad of [
      'http://kms.internal',
      'http://127.0.0.1.evil.example',
      'https://u:p@kms',
      'https://kms/path',
      'https://kms?x',
      'kms',
    ])
      assert.notEqual(endpointProblem(bad), undefined, bad);
  });
});

describe('a certificate of Certificate Authority Service', () => {
  it('is asked for with less life than is left, for the clocks and the way; the same request has the same ids', () => {
    const now = Date.now();
    const request = signingRequest(parseTrustDomain('example.org'), { notBefore: now - 60_000 });
    fc.assert(
      fc.property(fc.integer({ min: 2000, max: 90 * 86_400_000 }), (left) => {
        const { query, body } = certificateCreation({ ...request, notAfter: now + left }, now, undefined);
        const lifetime = Number.parseInt((body as { lifetime: string }).lifetime, 10) * 1000;
        assert.ok(lifetime <= left - Math.min(10_000, left / 10) && lifetime >= 1000);
        assert.match(query.certificateId, /^[a-zA-Z0-9_-]{1,63}$/);
        assert.match(query.requestId, /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
        assert.deepEqual(certificateCreation({ ...request, notAfter: now + left }, now + 500, undefined).query, query);
      }),
    );
    assert.throws(() => certificateCreation({ ...request, notAfter: now + 500 }, now, undefined), { code: 'AUTHORITY_MISCONFIGURED' });
  });
});

describe('small things of HTTP and checksums', () => {
  it('CRC-32C has the values of RFC 3720 §B.4', () => {
    assert.equal(crc32c(Buffer.alloc(32)), 0x8a9136aa);
    assert.equal(crc32c(Buffer.alloc(32, 0xff)), 0x62a8ab43);
    assert.equal(crc32c(Buffer.from('123456789')), 0xe3069283);
  });

  it('Retry-After is seconds or a date, and never more than five minutes', () => {
    const now = Date.UTC(2026, 0, 1);
    assert.equal(retryAfterMs({ 'retry-after': '7' }, now), 7000);
    assert.equal(retryAfterMs({ 'retry-after': new Date(now + 9000).toUTCString() }, now), 9000);
    assert.equal(retryAfterMs({ 'retry-after': '99999' }, now), 300_000);
    assert.equal(retryAfterMs({ 'retry-after': 'soon' }, now), undefined);
    assert.equal(retryAfterMs({}, now), undefined);
  });
});
