import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { pluginSettings } from '../../../../src/ca/plugin/settings.ts';

const tls = { ca: '/ca.pem', certificate: '/own.pem', key: '/own.key' };

describe('the settings of a plugin', () => {
  it('name one place where it is, and trust none of its roots by themselves', () => {
    for (const place of [{ command: ['/bin/plugin', '-v'] }, { socket: '/run/plugin.sock' }, { address: 'ca.example:8443', tls }]) {
      const { anchors, approvedAnchors, startTimeout } = pluginSettings.parse({ type: 'plugin', ...place });
      assert.deepEqual([anchors, approvedAnchors, startTimeout], ['pinned', [], 10_000]);
    }
  });

  it('are refused with the reason', () => {
    const refused: readonly (readonly [object, RegExp])[] = [
      [{}, /exactly one of command, socket and address; it has none/],
      [{ command: ['/bin/plugin'], socket: '/run/plugin.sock' }, /it has 2/],
      [{ address: 'ca.example:8443' }, /belongs to address: give both/],
      [{ socket: '/run/plugin.sock', tls }, /belongs to address: give both/],
      [{ command: ['plugin'] }, /absolute path of a program/],
      [{ command: [] }, /command/],
      [{ command: ['/bin/plugin'], environment: { 'A=B': 'x' } }, /name of an environment variable/],
      [{ command: ['/bin/plugin'], inheritEnvironment: ['SIGNET_KEY'] }, /Signet's own variables are not handed on/],
      [{ socket: '/run/plugin.sock', password: 'x' }, /password/],
    ];
    for (const [settings, says] of refused) {
      const parsed = pluginSettings.safeParse({ type: 'plugin', ...settings });
      assert.equal(parsed.success, false, JSON.stringify(settings));
      assert.match(JSON.stringify(parsed.error.issues), says);
    }
  });
});
