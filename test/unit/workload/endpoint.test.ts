import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SignetError } from '../../../src/base/errors.ts';
import { memberOf, oneOf } from '../../../src/workload/authorize.ts';
import { endpointPath } from '../../../src/workload/endpoint.ts';

const refused = (code: string, why: RegExp) => (error: unknown) =>
  error instanceof SignetError && error.code === code && why.test(error.message);

test('the socket is the one given, or else that of SPIFFE_ENDPOINT_SOCKET', () => {
  const environment = { SPIFFE_ENDPOINT_SOCKET: 'unix:///run/from-environment.sock' };
  assert.equal(endpointPath(undefined, environment), '/run/from-environment.sock');
  for (const given of ['/run/a.sock', 'unix:///run/a.sock', 'unix:/run/a.sock'])
    assert.equal(endpointPath(given, environment), '/run/a.sock');
});

test('where no socket is known, or not in a form that we can use, the error says what to do', () => {
  assert.throws(() => endpointPath(undefined, {}), refused('CONFIG_INVALID', /Set SPIFFE_ENDPOINT_SOCKET=unix:/));
  assert.throws(() => endpointPath('tcp://127.0.0.1:8000', {}), refused('CONFIG_INVALID', /TCP is not supported/));
  for (const given of ['run/a.sock', 'unix://run/a.sock', 'unix:///a?b', 'unix:///a#b', 'http://x/y', 'unix://'])
    assert.throws(() => endpointPath(given, {}), refused('CONFIG_INVALID', /unix:\/\/\/path/), given);
});

test('who may be spoken to is named exactly, or by trust domain', () => {
  const both = oneOf('spiffe://td.example/web', 'spiffe://td.example/db');
  assert.ok(both('spiffe://td.example/web') && both('spiffe://td.example/db'));
  assert.ok(!both('spiffe://td.example/web2') && !both('spiffe://other.example/web'));
  for (const name of ['spiffe://td.example', 'td.example']) {
    const members = memberOf(name);
    assert.ok(members('spiffe://td.example/anything'));
    assert.ok(!members('spiffe://td.example.evil/anything') && !members('spiffe://other/td.example'));
  }
  // A name that can never match would silently let nobody in.
  assert.throws(() => oneOf('td.example/web'), refused('INVALID_ARGUMENT', /SPIFFE ID/));
  assert.throws(() => memberOf('spiffe://td.example/web'), refused('INVALID_ARGUMENT', /trust domain/));
});
