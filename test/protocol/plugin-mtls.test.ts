import assert from 'node:assert/strict';
import { Metadata, status } from '@grpc/grpc-js';
import { spawn } from 'node:child_process';
import { describe, it } from 'node:test';
import { systemClock } from '../../src/base/clock.ts';
import { encodeErrorDetails } from '../../src/base/error-details.ts';
import type { Authority } from '../../src/ca/authority.ts';
import { addressSource } from '../../src/ca/plugin/address-source.ts';
import { openPluginAuthority } from '../../src/ca/plugin/plugin-authority.ts';
import { parseTrustDomain } from '../../src/spiffe/id.ts';
import { authoritySuite, signingRequest } from '../support/authority-suite.ts';
import type { AuthorityLocation } from '../support/authority-suite.ts';
import { eventually } from '../support/eventually.ts';
import { failureOf } from '../support/failure.ts';
import { fakeAuthority } from '../support/fake-authority.ts';
import { hostilePlugin } from '../support/hostile-plugin.ts';
import type { HostilePlugin } from '../support/hostile-plugin.ts';
import { freePort } from '../support/ports.ts';
import { endChild, keepTrack } from '../support/process.ts';
import { silentLog } from '../support/silent-log.ts';
import { replaceFile, tempFolder } from '../support/temp.ts';
import { testPki } from '../support/test-pki.ts';
import type { TestPki } from '../support/test-pki.ts';

const trustDomain = parseTrustDomain('example.org');
const signetId = 'spiffe://example.org/signet/server';
const never = new AbortController().signal;

interface Location extends AuthorityLocation {
  readonly plugin: HostilePlugin;
  /** As `open`, with a certificate of this PKI, and believing in plugins of that one. */
  openAs(own: TestPki, theirs: TestPki): Promise<Authority>;
  readonly pki: TestPki;
  readonly strangers: TestPki;
}

/** A plugin of the tests behind mutual TLS, with every fault that can be made. */
async function location(): Promise<Location> {
  const folder = await tempFolder();
  let pki = await testPki('plugin');
  const strangers = await testPki('stranger');
  const serverTls = async (of: TestPki) => {
    const { certificatePem, keyPem } = await of.server();
    return { ca: of.rootPem, certificate: certificatePem, key: keyPem };
  };
  const plugin = await hostilePlugin(systemClock, await serverTls(pki));
  let opened: { readonly authority: Authority; readonly prefix: string } | undefined;
  let files = 0;

  async function write(prefix: string, own: TestPki, theirs: TestPki): Promise<void> {
    const { certificatePem, keyPem } = await own.client(signetId);
    await replaceFile(folder.file(`${prefix}-ca.pem`), theirs.rootPem);
    await replaceFile(folder.file(`${prefix}.pem`), certificatePem);
    await replaceFile(folder.file(`${prefix}.key`), keyPem);
  }
  async function openAs(own: TestPki, theirs: TestPki, prefix = `tls${String(files++)}`): Promise<Authority> {
    await write(prefix, own, theirs);
    const tls = { ca: folder.file(`${prefix}-ca.pem`), certificate: folder.file(`${prefix}.pem`), key: folder.file(`${prefix}.key`) };
    const source = addressSource({ name: 'remote', address: plugin.address, tls, log: silentLog, lookEveryMs: 50 });
    return openPluginAuthority({ name: 'remote', trustDomain, source, startTimeoutMs: 20_000, random: Math.random, log: silentLog });
  }

  /** The plugin answers with this as long as what is returned is open. */
  async function openFailing(code: status): Promise<Authority> {
    const authority = await openAs(pki, pki);
    plugin.answer = () => {
      throw Object.assign(new Error('not so'), { code });
    };
    return {
      ...authority,
      close() {
        plugin.answer = undefined;
        return authority.close();
      },
    };
  }

  return {
    plugin,
    pki,
    strangers,
    openAs,
    async open() {
      const prefix = `tls${String(files++)}`;
      opened = { authority: await openAs(pki, pki, prefix), prefix };
      return opened.authority;
    },
    faults: {
      outage: {
        stop: () => {
          plugin.stop();
          return Promise.resolve();
        },
        start: () => plugin.start(),
      },
      // As a plugin does it that knows whom it serves: gRPC's server in Node hangs up on a strange certificate without a word.
      openRefused: () => openFailing(status.PERMISSION_DENIED),
      openMisconfigured: () => openFailing(status.NOT_FOUND),
      throttle() {
        plugin.answer = () => {
          const metadata = new Metadata();
          const details = {
            code: status.RESOURCE_EXHAUSTED,
            message: 'too many',
            reason: 'AUTHORITY_THROTTLED',
            metadata: {},
            retryAfterMs: 1500,
          };
          metadata.set('grpc-status-details-bin', encodeErrorDetails(details));
          throw Object.assign(new Error('too many'), { code: status.RESOURCE_EXHAUSTED, metadata });
        };
        return Promise.resolve(() => {
          plugin.answer = undefined;
          return Promise.resolve();
        });
      },
      async rotate() {
        plugin.ca = await fakeAuthority({ clock: systemClock, name: 'next' });
        plugin.announce();
      },
      // Both sides get a new CA for their TLS: who kept what it had is let in no more.
      async outliveCredential() {
        pki = await testPki('next');
        await write(opened?.prefix ?? '', pki, pki);
        plugin.stop();
        plugin.tls = await serverTls(pki);
        await plugin.start();
        await eventually('it is connected again', async () => ((await opened?.authority.health(never))?.canSign ? true : undefined));
      },
    },
    async dispose() {
      await plugin[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

authoritySuite({
  name: 'plugin-mtls',
  engine: 'a plugin of the tests',
  trustDomain,
  intermediates: 1,
  make: location,
});

describe('a plugin behind mutual TLS', () => {
  it('that is not the one that was meant gets nothing to sign, and the message says what to check', async () => {
    const here = await location();
    const authority = await here.openAs(here.pki, here.strangers);
    const error = await failureOf(authority.sign(signingRequest(trustDomain), never));
    assert.equal(error.code, 'AUTHORITY_MISCONFIGURED');
    assert.match(error.message, /tls\.ca/);
    assert.deepEqual(here.plugin.asked, []);
    await authority.close();
    await here.dispose();
  });

  it('that refuses the certificate of Signet is told as such', async () => {
    await using folder = await tempFolder();
    const [theirs, strangers] = [await testPki('plugin'), await testPki('stranger')];
    const server = await theirs.server();
    const client = await strangers.client(signetId);
    const contents = {
      ca: theirs.rootPem,
      cert: server.certificatePem,
      key: server.keyPem,
      own: client.certificatePem,
      ownKey: client.keyPem,
    };
    for (const [name, text] of Object.entries(contents)) await replaceFile(folder.file(name), text);
    const port = await freePort();
    const verified = ['-Verify', '1', '-verify_return_error', '-CAfile', folder.file('ca'), '-alpn', 'h2', '-quiet'];
    const openssl = spawn(
      'openssl',
      ['s_server', '-accept', `127.0.0.1:${String(port)}`, '-cert', folder.file('cert'), '-key', folder.file('key'), ...verified],
      {
        stdio: 'ignore',
      },
    );
    keepTrack(openssl);
    const tls = { ca: folder.file('ca'), certificate: folder.file('own'), key: folder.file('ownKey') };
    const source = addressSource({ name: 'remote', address: `localhost:${String(port)}`, tls, log: silentLog });
    const options = { name: 'remote', trustDomain, source, startTimeoutMs: 20_000, random: () => 0, log: silentLog };
    const authority = await openPluginAuthority(options);
    await eventually('it is told', async () => {
      const { code } = await failureOf(authority.sign(signingRequest(trustDomain), never));
      return code === 'AUTHORITY_REFUSED' ? true : undefined;
    });
    await authority.close();
    await endChild(openssl);
  });

  it('says when to come back, in either of two ways', async () => {
    const here = await location();
    const authority = await here.open();
    const lift = await here.faults?.throttle?.();
    assert.equal((await failureOf(authority.sign(signingRequest(trustDomain), never))).retryAfterMs, 1500);
    await lift?.();
    here.plugin.answer = () => {
      const metadata = new Metadata();
      metadata.set('grpc-retry-pushback-ms', '700');
      throw Object.assign(new Error('too many'), { code: status.RESOURCE_EXHAUSTED, metadata });
    };
    const plain = await failureOf(authority.sign(signingRequest(trustDomain), never));
    assert.deepEqual([plain.code, plain.retryAfterMs], ['AUTHORITY_THROTTLED', 700]);
    await authority.close();
    await here.dispose();
  });
});
