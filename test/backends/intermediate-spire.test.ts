/** An intermediate of ours below SPIRE's own server. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../src/base/clock.ts';
import type { Authority } from '../../src/ca/authority.ts';
import { openIntermediateAuthority } from '../../src/ca/intermediate/intermediate-authority.ts';
import { keySealFromKey, newKeyEncryptionKey } from '../../src/ca/key-seal.ts';
import { spireUpstreamSettings } from '../../src/ca/spire/settings.ts';
import { openSpireUpstream } from '../../src/ca/spire/spire-upstream.ts';
import { parseTrustDomain } from '../../src/spiffe/id.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { verifyChain } from '../../src/x509/chain.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair, sha256Hex } from '../../src/x509/keys.ts';
import { authoritySuite } from '../support/authority-suite.ts';
import { spireVersion, startSpireServer } from '../support/engines/spire-server.ts';
import type { SpireServer } from '../support/engines/spire-server.ts';
import { memoryCaState } from '../support/memory-ca-state.ts';
import { pageConfig, signOverApi } from '../support/page-config.ts';
import { silentLog } from '../support/silent-log.ts';
import { keepSpireFiles } from '../support/spire-files.ts';
import { tempFolder } from '../support/temp.ts';
import type { TempFolder } from '../support/temp.ts';
import { wholeServer } from '../support/whole-server.ts';

const trustDomain = parseTrustDomain('example.org');
const never = new AbortController().signal;
const day = 86_400_000;

authoritySuite({
  name: 'intermediate below SPIRE',
  engine: `SPIRE ${spireVersion}, with fewer plugins built in`,
  trustDomain,
  intermediates: 1,
  async make() {
    const folder = await tempFolder();
    const strangers = await tempFolder();
    const spire = await startSpireServer(trustDomain);
    const files = await keepSpireFiles(spire, folder, '/signet');
    const state = memoryCaState();
    const seal = keySealFromKey(newKeyEncryptionKey());
    const open = (own = state, credential = files): Promise<Authority> => {
      const settings = spireUpstreamSettings.parse({ type: 'spire', address: spire.address, refresh: '300ms', ...credential });
      return openIntermediateAuthority({
        ...{ name: 'below', trustDomain, state: own, seal, lifeMs: 5 * day, distributionMs: 1000, mayTrust: () => true },
        upstream: openSpireUpstream({ name: 'below', trustDomain, settings, clock: systemClock, random: Math.random, log: silentLog }),
        clock: systemClock,
        random: Math.random,
        log: silentLog,
      });
    };
    return {
      open: () => open(),
      faults: {
        // A workload of the trust domain whose entry is not `downstream`.
        openRefused: async () => open(memoryCaState(), await keepSpireFiles(spire, strangers, '/ns/shop/sa/web')),
        rotate: spire.rotate,
      },
      async dispose() {
        await spire[Symbol.asyncDispose]();
        await folder[Symbol.asyncDispose]();
        await strangers[Symbol.asyncDispose]();
      },
    };
  },
});

describe('below SPIRE', () => {
  let spire: SpireServer;
  let folder: TempFolder;
  before(async () => {
    folder = await tempFolder();
    spire = await startSpireServer(trustDomain);
  });
  after(async () => {
    await spire[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });

  it('a renewed X.509-SVID is taken up before the old one ends', async () => {
    const files = await keepSpireFiles(spire, folder, '/signet', '6s');
    const settings = spireUpstreamSettings.parse({ type: 'spire', address: spire.address, ...files });
    const upstream = openSpireUpstream({ name: 'below', trustDomain, settings, clock: systemClock, random: Math.random, log: silentLog });
    const ask = async (): Promise<void> => {
      const key = generateKeyPair();
      const request = {
        csr: createCsr(key, ['spiffe://example.org']),
        spkiSha256: key.spkiSha256,
        commonName: '',
        notAfter: Date.now() + day,
      };
      const { certificates } = await upstream.signIntermediate(request, never);
      assert.equal(parseCertificate(certificates[0]).spkiSha256, key.spkiSha256);
    };
    await ask();
    await keepSpireFiles(spire, folder, '/signet', '1h');
    await sleep(7000);
    await ask();
    await upstream.close();
  });

  it('configured as the page says, signs under the root of SPIRE, and goes on without it', async () => {
    const files = await keepSpireFiles(spire, folder, '/signet');
    const config = await pageConfig('ca-intermediate.md', 'Below SPIRE', {
      'spire-server.spire.svc:8081': spire.address,
      '/run/spiffe/bundle.pem': files.caFile,
      '/run/spiffe/svid.pem': files.certificateFile,
      '/run/spiffe/key.pem': files.keyFile,
    });
    await using lower = await wholeServer(config);
    const first = await signOverApi(lower);
    verifyChain(first.chain, first.anchors, Date.now());
    const bundle = parseCertificate(first.anchors[0] ?? Buffer.alloc(0));
    assert.deepEqual(bundle.uris, ['spiffe://example.org']);
    await spire.stop();
    const second = await signOverApi(lower);
    assert.notEqual(sha256Hex(second.chain[0]), sha256Hex(first.chain[0]));
    verifyChain(second.chain, first.anchors, Date.now());
    await spire.start();
  });
});
