import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { checkIssuerSettings, issuerOverlap } from '../../../src/identity/issuer-settings.ts';
import type { IssuerSettings, KeyIssuerSettings } from '../../../src/identity/issuer-settings.ts';
import { kubernetesIssuer } from '../../support/token-world.ts';

const fieldsWrong = (...settings: readonly IssuerSettings[]) =>
  checkIssuerSettings(settings).map(({ issuer, field }) => `${issuer}.${field}`);

describe('issuer settings', () => {
  it('finds nothing wrong with Kubernetes, and two clusters with segments of their own', () => {
    const west = kubernetesIssuer({ id: 'west', path: '/west/ns/{/n}/sa/{/s}', keys: { jwks: 'https://west.example/keys' } });
    const east = kubernetesIssuer({ id: 'east', path: '/east/ns/{/n}/sa/{/s}', keys: { jwks: '/etc/signet/east.json' } });
    assert.deepEqual(fieldsWrong(kubernetesIssuer()), []);
    assert.deepEqual(fieldsWrong(west, east), []);
  });

  it('refuses each mistake at its field', () => {
    const wrong: readonly (readonly [keyof KeyIssuerSettings, unknown])[] = [
      ['id', ''],
      ['id', 'a b'],
      ['issuer', ''],
      ['audiences', []],
      ['audiences', ['']],
      ['algorithms', []],
      ['algorithms', ['HS256']],
      ['algorithms', ['none']],
      ['keys', { jwks: '' }],
      ['keys', { jwks: 'http://keys.example/jwks' }],
      ['keys', { jwks: 'http://127.0.0.1.evil.example/jwks' }],
      ['keys', { jwks: 'http://localhost.evil.example/jwks' }],
      ['keys', { jwks: 'ftp://keys.example/jwks' }],
      ['keys', { jwks: 'https://user:secret@keys.example/jwks' }],
      ['keys', { discovery: 'keys.example' }],
      ['keys', { discovery: 'https://keys.example/#x' }],
      ['path', '/ns/{/a}x'],
      ['path', '/signet/{/a}'],
      ['path', '/signet'],
      ['instance', 'pod'],
      ['allow', []],
      ['allow', ['ns/*']],
      ['deny', ['/ns/']],
    ];
    for (const [field, value] of wrong)
      assert.ok(
        fieldsWrong(kubernetesIssuer({ [field]: value })).some((place) => place.endsWith(`.${field}`)),
        `${field} ${JSON.stringify(value)}`,
      );
  });

  it('takes plain http for this machine alone', () => {
    for (const jwks of [
      'http://127.0.0.1:8080/keys',
      'http://[::1]/keys',
      'http://localhost/keys',
      'https://keys.example/keys',
      './keys.json',
    ]) {
      assert.deepEqual(fieldsWrong(kubernetesIssuer({ keys: { jwks } })), [], jwks);
    }
  });

  it("refuses issuers that could name each other's identities", () => {
    const at = (id: string, path: string) => kubernetesIssuer({ id, issuer: `https://${id}.example`, path });
    assert.notEqual(issuerOverlap(at('a', '/ns/{/n}'), at('b', '/ns/{/n}')), undefined);
    assert.notEqual(issuerOverlap(at('a', '/ns/{/n}'), at('b', '/ns/x/{/n}')), undefined);
    assert.notEqual(issuerOverlap(at('a', '/{/n}'), at('b', '/other/{/n}')), undefined);
    assert.notEqual(issuerOverlap(at('a', '/vm'), at('b', '/vm/{/n}')), undefined);
    assert.equal(issuerOverlap(at('a', '/ns/{/n}'), at('b', '/nsx/{/n}')), undefined);
    assert.equal(issuerOverlap(at('a', '/k/one/{/n}'), at('b', '/k/two/{/n}')), undefined);
    assert.deepEqual(fieldsWrong(at('a', '/ns/{/n}'), at('b', '/ns/{/n}')), ['b.path']);
  });

  it('refuses two of one id, and two that no token could tell apart', () => {
    assert.ok(fieldsWrong(kubernetesIssuer(), kubernetesIssuer({ path: '/other/{/n}' })).includes('kubernetes.id'));
    assert.ok(fieldsWrong(kubernetesIssuer(), kubernetesIssuer({ id: 'twin', path: '/other/{/n}' })).includes('twin.keys'));
  });
});
