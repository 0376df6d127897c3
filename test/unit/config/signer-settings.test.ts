import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { checkConfig } from '../../../src/server/config/load.ts';
import { tempFolder } from '../../support/temp.ts';
import { writeFile } from 'node:fs/promises';

/** What is wrong with a backend of type files, as an operator is told. */
async function check(lines: readonly string[], env: Record<string, string> = {}) {
  await using folder = await tempFolder();
  const file = folder.file('signet.yaml');
  const backend = ['root: root.pem', ...lines].map((line) => `      ${line}\n`).join('');
  await writeFile(file, `ca:\n  backends:\n    own:\n      type: files\n${backend}`);
  const { config, problems } = await checkConfig({ file, env, dev: true });
  return { config, folder: folder.path, told: problems.map(({ path, message }) => `${path}: ${message}`) };
}

const hsm = (...settings: readonly string[]) => [
  'signer:',
  '  type: pkcs11',
  '  module: lib/vendor.so',
  ...settings.map((line) => `  ${line}`),
];
const right = ['tokenLabel: signet', 'keyLabel: ca', 'pinFile: pin'];

describe('a backend whose key is elsewhere', () => {
  it('has its paths taken from where the file is, and its settings from the environment', async () => {
    const { config, folder, told } = await check(hsm(...right), { SIGNET_CA__BACKENDS__OWN__SIGNER__SESSIONS: '3' });
    assert.deepEqual(told, []);
    const own = config?.ca.backends['own'];
    assert.ok(own?.type === 'files' && own.signer?.type === 'pkcs11');
    const { module, pinFile, sessions } = own.signer;
    assert.deepEqual([module, pinFile, sessions], [`${folder}/lib/vendor.so`, `${folder}/pin`, 3]);
  });

  const mistakes: Record<string, readonly [lines: readonly string[], told: RegExp]> = {
    'neither key nor signer': [[], /own\.key: give exactly one of key and signer/],
    'both of them': [['key: ca.key', ...hsm(...right)], /own\.key: give exactly one of key and signer/],
    'a passphrase for what is no file': [['passphraseFile: p', ...hsm(...right)], /own\.passphraseFile: is for a key in a file/],
    'no token': [hsm('keyLabel: ca', 'pinFile: pin'), /signer\.tokenLabel: give exactly one of tokenLabel and slot/],
    'a label and a slot': [hsm('slot: 1', ...right), /signer\.tokenLabel: give exactly one/],
    'no key': [hsm('tokenLabel: signet', 'pinFile: pin'), /signer\.keyLabel: give keyLabel, keyId, or both/],
    'no PIN': [hsm('tokenLabel: signet', 'keyLabel: ca'), /signer\.pinFile: give exactly one of pinFile and pinEnvironment/],
    'a PIN in the file itself': [hsm('pin: "1234"', ...right), /signer/],
    'an id that is no hex': [hsm('keyId: "0x01"', ...right), /signer\.keyId: must be the CKA_ID in hex/],
    'a keeper that there is not': [['signer: {type: drawer}'], /signer/],
  };
  for (const [mistake, [lines, told]] of Object.entries(mistakes)) {
    it(`is refused with ${mistake}`, async () => {
      const outcome = await check(lines);
      assert.equal(outcome.config, undefined);
      assert.match(outcome.told.join('\n'), told);
      assert.doesNotMatch(outcome.told.join('\n'), /1234/);
    });
  }
});
