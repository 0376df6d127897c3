import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createLogger } from '../../../src/observe/logger.ts';
import { scrub } from '../../../src/observe/scrub.ts';
import { generateKeyPair, privateKeyPem } from '../../../src/x509/keys.ts';

const token = `eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJpc3MiOiJ4In0.${'c2lnbmF0dXJl'.repeat(20)}`;
const keyPem = privateKeyPem(generateKeyPair().privateKey);
const keyBytes = keyPem.split('\n').slice(1, -2);

function logged(act: (log: ReturnType<typeof createLogger>) => void, level: 'debug' | 'info' | 'warn' | 'error' = 'debug'): string[] {
  const lines: string[] = [];
  act(createLogger({ level, destination: { write: (line: string) => void lines.push(line) } }));
  return lines;
}

describe('the log', () => {
  it('is one JSON object a line, with time, level and message', () => {
    const [line = ''] = logged((log) => {
      log.info({ serial: '0a1b', spiffeId: 'spiffe://test.example/ns/a/sa/b' }, 'certificate signed');
    });
    const entry = JSON.parse(line) as Record<string, unknown>;
    assert.equal(entry.level, 'info');
    assert.equal(entry.message, 'certificate signed');
    assert.equal(entry.serial, '0a1b');
    assert.ok(!Number.isNaN(Date.parse(String(entry.time))));
  });

  it('leaves out what is below its level', () => {
    const lines = logged((log) => {
      log.debug({}, 'a');
      log.info({}, 'b');
      log.warn({}, 'c');
      log.error({}, 'd');
    }, 'warn');
    assert.deepEqual(
      lines.map((line) => (JSON.parse(line) as { message: string }).message),
      ['c', 'd'],
    );
  });

  it('never has a token or a private key: by the name of a field, in an error, in its cause, or in the message', () => {
    const inner = Object.assign(new Error(`cause with ${keyPem}`), { config: { headers: { authorization: token } } });
    const lines = logged((log) => {
      log.info({ token, authorization: `Bearer ${token}`, request: { token, nested: { passphrase: 'hunter2' } } }, 'fields');
      log.error({ err: new Error(`refused ${token}`, { cause: inner }) }, `failed with ${token} and ${keyPem}`);
      log.warn({ err: keyPem }, 'an error that is none');
    });
    assert.equal(lines.length, 3);
    const all = lines.join('');
    for (const secret of [token, token.split('.')[2] ?? '', 'hunter2', ...keyBytes]) assert.ok(!all.includes(secret), secret);
    assert.match(all, /"code"|"type":"Error"/);
    assert.match(all, /refused \[token\]/);
  });
});

it('scrubs what was cut off in the middle, too', () => {
  for (const secret of [keyPem.slice(0, 120), token.slice(0, 40), `x${'A'.repeat(400)}x`]) {
    const clean = scrub(`before ${secret}`);
    assert.ok(clean.startsWith('before ['), clean);
    assert.ok(!clean.includes(secret.slice(40, 60)) || secret.length <= 40, clean);
  }
  assert.equal(scrub('serial 0a1b2c of spiffe://cluster.local/ns/a/sa/b'), 'serial 0a1b2c of spiffe://cluster.local/ns/a/sa/b');
});
