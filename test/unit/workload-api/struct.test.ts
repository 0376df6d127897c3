import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import protobuf from 'protobufjs';
import { SignetError } from '../../../src/base/errors.ts';
import { encodeStruct } from '../../../src/workload-api/struct.ts';

/** The judge: protobufjs and its own copy of google/protobuf/struct.proto. */
const struct = protobuf.Root.fromJSON(protobuf.common.get('google/protobuf/struct.proto') ?? {}).lookupType('google.protobuf.Struct');

interface DecodedStruct {
  readonly fields?: Readonly<Record<string, DecodedValue>>;
}
interface DecodedValue {
  readonly kind?: string;
  readonly numberValue?: number;
  readonly stringValue?: string;
  readonly boolValue?: boolean;
  readonly structValue?: DecodedStruct;
  readonly listValue?: { readonly values?: readonly DecodedValue[] };
}

function objectOf({ fields = {} }: DecodedStruct): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, valueOf(value)]));
}

function valueOf(value: DecodedValue): unknown {
  switch (value.kind) {
    case 'nullValue':
      return null;
    case 'numberValue':
      return value.numberValue;
    case 'stringValue':
      return value.stringValue;
    case 'boolValue':
      return value.boolValue;
    case 'structValue':
      return objectOf(value.structValue ?? {});
    case 'listValue':
      return (value.listValue?.values ?? []).map(valueOf);
    case undefined:
    default:
      throw new Error(`a value of no kind: ${String(value.kind)}`);
  }
}

const decoded = (bytes: Buffer): Record<string, unknown> => objectOf(struct.toObject(struct.decode(bytes), { oneofs: true }));

test('claims come out of a Struct as they went in', () => {
  const json = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 4, depthIdentifier: 'json' },
      fc.string({ unit: 'binary' }),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.boolean(),
      fc.constant(null),
      fc.array(tie('value'), { maxLength: 4, depthIdentifier: 'json' }),
      tie('object'),
    ),
    object: fc.dictionary(
      fc.string({ unit: 'binary' }).filter((key) => key !== '__proto__'),
      tie('value'),
      { maxKeys: 4, depthIdentifier: 'json' },
    ),
  })).object;
  fc.assert(
    fc.property(json, (object) => {
      const claims = JSON.parse(JSON.stringify(object)) as Record<string, unknown>;
      assert.deepEqual(decoded(encodeStruct(claims)), claims);
    }),
    { numRuns: 500 },
  );
});

test('what a token really holds', () => {
  const claims = {
    sub: 'spiffe://td.example/web',
    aud: ['a', 'b'],
    exp: 1_800_000_000,
    iat: 1.5,
    nested: { deep: [null, true, {}] },
    empty: '',
  };
  assert.deepEqual(decoded(encodeStruct(claims)), claims);
});

test('half a surrogate pair, which JSON can write and UTF-8 can not, is replaced', () => {
  const claims = JSON.parse('{"name":"\\ud800"}') as Record<string, unknown>;
  assert.deepEqual(decoded(encodeStruct(claims)), { name: '\ufffd' });
});

test('nesting that readers would refuse is refused here', () => {
  for (const [open, close] of [
    ['{"a":', '}'],
    ['[', ']'],
  ] as const) {
    const nested = (levels: number): Record<string, unknown> =>
      JSON.parse(`{"a":${open.repeat(levels)}1${close.repeat(levels)}}`) as Record<string, unknown>;
    assert.deepEqual(decoded(encodeStruct(nested(30))), nested(30));
    assert.throws(
      () => encodeStruct(nested(1000)),
      (error) => error instanceof SignetError && error.code === 'INVALID_ARGUMENT',
    );
  }
});
