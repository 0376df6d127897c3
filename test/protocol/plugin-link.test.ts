import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { systemClock } from '../../src/base/clock.ts';
import { socketSource } from '../../src/ca/plugin/address-source.ts';
import { openPluginAuthority } from '../../src/ca/plugin/plugin-authority.ts';
import type { Authority } from '../../src/ca/authority.ts';
import { parseTrustDomain } from '../../src/spiffe/id.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { signingRequest } from '../support/authority-suite.ts';
import { eventually } from '../support/eventually.ts';
import { failureOf } from '../support/failure.ts';
import { fakeAuthority } from '../support/fake-authority.ts';
import { hostilePlugin } from '../support/hostile-plugin.ts';
import type { HostilePlugin } from '../support/hostile-plugin.ts';
import { recordingLog } from '../support/recording-log.ts';
import type { RecordingLog } from '../support/recording-log.ts';

const trustDomain = parseTrustDomain('example.org');
const never = new AbortController().signal;

interface Linked extends AsyncDisposable {
  readonly plugin: HostilePlugin;
  readonly authority: Authority;
  readonly log: RecordingLog;
}

async function linked(prepare: (plugin: HostilePlugin) => Promise<void> | void = () => undefined): Promise<Linked> {
  const plugin = await hostilePlugin(systemClock);
  await prepare(plugin);
  const log = recordingLog();
  const authority = await openPluginAuthority({
    name: 'linked',
    trustDomain,
    source: socketSource(plugin.socket),
    startTimeoutMs: 20_000,
    random: () => 0,
    log,
  });
  return {
    plugin,
    authority,
    log,
    async [Symbol.asyncDispose]() {
      await authority.close();
      await plugin[Symbol.asyncDispose]();
    },
  };
}

const sign = (authority: Authority) => authority.sign(signingRequest(trustDomain), never);

describe('the first words of a plugin', () => {
  const wrong: Readonly<Record<string, (plugin: HostilePlugin) => Promise<void> | void>> = {
    'a revision that was not offered': (plugin) => void (plugin.handshake = { revision: 2 }),
    'no revision': (plugin) => void (plugin.handshake = { revision: 0 }),
    'a name without end': (plugin) => void (plugin.handshake = { pluginName: 'x'.repeat(101) }),
    'no anchors': (plugin) => void (plugin.trust = { anchors: [] }),
    'garbage as an anchor': (plugin) => void (plugin.trust = { anchors: [Buffer.from('root')] }),
    'an intermediate as an anchor': (plugin) => void (plugin.trust = { anchors: [plugin.ca.issuing.certificate] }),
    'a leaf as an anchor': async (plugin) => {
      const [leaf] = (await plugin.ca.sign(signingRequest(trustDomain), never)).certificates;
      plugin.trust = { anchors: [plugin.ca.root, leaf] };
    },
    'no end of its issuers': (plugin) => void (plugin.trust = { issuersEnd: 0 }),
  };
  for (const [what, prepare] of Object.entries(wrong)) {
    it(`with ${what} are believed in nothing`, async () => {
      await using held = await linked(prepare);
      assert.equal((await failureOf(sign(held.authority))).code, 'AUTHORITY_MISBEHAVED');
      await failureOf(held.authority.anchors(never));
      assert.deepEqual(held.plugin.asked, []);
      assert.equal((await held.authority.health(never)).canSign, false);
    });
  }

  it('may leave its capabilities out: then it has none', async () => {
    await using held = await linked((plugin) => {
      plugin.handshake = { capabilities: undefined };
    });
    assert.equal(held.authority.capabilities.exactLife, false);
    await sign(held.authority);
  });
});

describe('the trust of a plugin', () => {
  it('is followed: each change is told once, and a repetition is none', async () => {
    await using held = await linked();
    let told = 0;
    held.authority.onChange(() => told++);
    const next = await fakeAuthority({ clock: systemClock, name: 'next' });
    held.plugin.announce();
    held.plugin.trust = { anchors: [held.plugin.ca.root, next.root] };
    held.plugin.announce();
    await eventually('the new root is there', async () => ((await held.authority.anchors(never)).length === 2 ? true : undefined));
    assert.equal(told, 1);
  });

  it('stands as it was when what comes next is wrong, and signing goes on', async () => {
    await using held = await linked();
    held.plugin.trust = { anchors: [Buffer.from('nonsense')] };
    held.plugin.announce();
    await eventually('it is in the log', () => held.log.lines.find(({ level }) => level === 'error'));
    assert.deepEqual(await held.authority.anchors(never), [held.plugin.ca.root]);
    await sign(held.authority);
  });

  it('never lasts longer than its last anchor, whatever it says', async () => {
    await using held = await linked((plugin) => {
      plugin.trust = { issuersEnd: 250_000_000_000 };
    });
    assert.ok(held.authority.issuersEnd() < Date.now() + 3651 * 86_400_000);
  });
});

describe('a plugin that leaves', () => {
  for (const peaceful of [true, false]) {
    it(`${peaceful ? 'in peace' : 'in a crash'} is found again at the same place, long before it would be asked anew`, async () => {
      await using held = await linked();
      const next = await fakeAuthority({ clock: systemClock, name: 'next' });
      if (peaceful) held.plugin.hangUp();
      // Its last words are heard before the connection goes.
      await new Promise((resolve) => setTimeout(resolve, 300));
      held.plugin.stop();
      assert.equal((await failureOf(sign(held.authority))).code, 'AUTHORITY_UNAVAILABLE');
      assert.equal((await held.authority.health(never)).canSign, false);
      held.plugin.ca = next;
      await held.plugin.start();
      // A stream that ended in peace is opened again after 15 s at the earliest.
      const signed = await eventually('it signs again', () => sign(held.authority), 10_000);
      assert.ok(signed.certificates[1]?.equals(next.issuing.certificate));
      assert.deepEqual(await held.authority.anchors(never), [next.root]);
    });
  }
});

describe('an intermediate', () => {
  it('is asked only of a plugin that signs them', async () => {
    await using held = await linked();
    const key = generateKeyPair();
    const asked = {
      csr: createCsr(key, ['spiffe://example.org']),
      spkiSha256: key.spkiSha256,
      commonName: 'Signet',
      notAfter: Date.now() + 3_600_000,
    };
    assert.equal((await failureOf(held.authority.signIntermediate?.(asked, never) ?? Promise.resolve())).code, 'AUTHORITY_MISCONFIGURED');
    held.plugin.handshake = { capabilities: { signIntermediate: true } };
    held.plugin.stop();
    await held.plugin.start();
    await eventually('it says that it can', async () => {
      const { certificates } = (await held.authority.signIntermediate?.(asked, never)) ?? { certificates: [] };
      return certificates.length > 0 ? true : undefined;
    });
  });
});
