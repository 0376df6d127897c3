import assert from 'node:assert/strict';
import { posix } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { checkKeyDirectory } from '../../../src/policy/key-directory.ts';

const allowed = ['/var/run/signet', '/etc/envoy/keys'];

describe('key directories', () => {
  it('takes an allowed folder and what is below it, as it is', () => {
    for (const directory of ['/var/run/signet', '/var/run/signet/web-0', '/etc/envoy/keys/a/b.c_d']) {
      assert.equal(checkKeyDirectory(directory, allowed), directory);
    }
  });

  it('refuses, and never cleans, anything else', () => {
    const bad = [
      '',
      '/',
      'var/run/signet',
      './var/run/signet',
      '/var/run/signet/',
      '/var/run/signet//x',
      '/var/run/signet/../../etc',
      '/var/run/signet/./x',
      '/var/run/signet/..',
      '/var/run/signet-other',
      '/var/run',
      '/etc/envoy',
      '/var/run/signet/a b',
      '/var/run/signet/a\n',
      '/var/run/signet/\u0000',
      '/var/run/signet/ä',
      '/var/run/signet/${HOME}',
      `/var/run/signet/${'a'.repeat(200)}`,
    ];
    for (const directory of bad) assert.throws(() => checkKeyDirectory(directory, allowed), { code: 'INVALID_ARGUMENT' }, directory);
  });

  it('allows nothing where nothing is configured', () => {
    assert.throws(() => checkKeyDirectory('/var/run/signet', []), { code: 'INVALID_ARGUMENT', message: /keyDirectories/ });
  });

  it('never lets a path out of the allowed folders, whatever it is made of', () => {
    const text = fc.array(fc.constantFrom('/var/run/signet', '/', '.', '..', 'a', '/etc', '\\', '%2e', '\u0000', '~'), { maxLength: 8 });
    fc.assert(
      fc.property(text, (parts) => {
        const directory = parts.join('');
        let taken: string;
        try {
          taken = checkKeyDirectory(directory, allowed);
        } catch {
          return;
        }
        assert.equal(posix.normalize(taken), taken);
        assert.ok(allowed.some((prefix) => taken === prefix || taken.startsWith(`${prefix}/`)));
      }),
      { numRuns: 2000 },
    );
  });
});
