import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { knock } from '../../src/cli/demo/stranger.ts';
import { generateKeyPair, privateKeyPem } from '../../src/x509/keys.ts';
import { eventually } from '../support/eventually.ts';
import { tempFolder } from '../support/temp.ts';
import { makeBaseImages } from './engine/base-images.ts';
import { startDockerEngine } from './engine/docker-engine.ts';
import type { DockerEngine } from './engine/docker-engine.ts';
import { filesWithSecrets, imageFacts } from './image-facts.ts';
import type { ImageFacts } from './image-facts.ts';
import { composedMesh, watchSerials } from './mesh.ts';
import type { ComposedMesh } from './mesh.ts';

const services = ['web', 'orders', 'stock', 'payments'];
const envoys = services.map((service) => `${service}-envoy`);
/** They do their work and end. */
const passing = [...services.map((service) => `${service}-config`), 'stranger'];
const image = 'signet-sds:demo';
const buildMs = 600_000;

interface Inspected {
  readonly Id: string;
  readonly Config: { readonly User: string };
  readonly HostConfig: {
    readonly NetworkMode: string;
    readonly ReadonlyRootfs: boolean;
    readonly Privileged: boolean;
    readonly CapDrop: readonly string[];
    readonly CapAdd: readonly string[] | null;
    readonly SecurityOpt: readonly string[];
  };
  readonly NetworkSettings: { readonly Networks: Readonly<Record<string, unknown>> };
}

describe('docker compose up', () => {
  let engine: DockerEngine;
  let mesh: ComposedMesh;
  let facts: ImageFacts;

  before(async () => {
    engine = await startDockerEngine();
    mesh = composedMesh(engine);
    await makeBaseImages(engine);
    // What a run that was cut short left behind.
    await mesh.run(['down', '--volumes', '--remove-orphans']);
    await mesh.run(['build'], buildMs);
    facts = await imageFacts(engine, image);
  });
  after(async () => {
    await mesh.run(['down', '--volumes', '--timeout', '5']).catch(() => undefined);
    // Of images that a newer build has replaced.
    await engine.docker(['image', 'prune', '--force']);
    await engine[Symbol.asyncDispose]();
  });

  async function inspect(services: readonly string[]): Promise<readonly Inspected[]> {
    const containers = await mesh.containers();
    const ids = services.map((service) => containers.find((container) => container.service === service)?.id ?? service);
    return JSON.parse(await engine.docker(['inspect', ...ids])) as readonly Inspected[];
  }

  it('has an image without a shell, for a user without rights, that needs nothing to write to', async (t) => {
    t.diagnostic(`${image}: ${String(facts.megabytes)} MB`);
    assert.match(facts.user, /^[1-9]\d*:[1-9]\d*$/);
    assert.deepEqual(facts.healthcheck, ['CMD', 'signet', 'status']);
    const version = await engine.docker(['run', '--rm', '--network', 'none', '--read-only', '--cap-drop', 'ALL', image, '--version']);
    assert.match(version, /^\d+\.\d+\.\d+\n$/);
    await assert.rejects(
      engine.docker(['run', '--rm', '--network', 'none', '--entrypoint', 'sh', image, '-c', 'true']),
      /executable file not found/,
    );
    assert.deepEqual(
      facts.files.filter((file) => /(^|\/)(sh|bash|dash|apt|dpkg|npm)$/.test(file)),
      [],
    );
  });

  it('has no secret in any layer, nor in how it was made', async () => {
    // What looks for them does find one.
    await using planted = await tempFolder();
    const { privateKey } = generateKeyPair();
    await writeFile(planted.file('key'), `x${privateKeyPem(privateKey)}`);
    await writeFile(planted.file('token'), `\n${[24, 24, 86].map((size) => `eyJ${'a'.repeat(size)}`).join('.')}`);
    await writeFile(planted.file('program'), '-----BEGIN PRIVATE KEY-----\0-----END PRIVATE KEY-----');
    assert.deepEqual((await filesWithSecrets(planted.path)).toSorted(), [planted.file('key'), planted.file('token')]);

    assert.deepEqual(facts.secretsIn, []);
    const ours = new Set(facts.files.flatMap((file) => /^app\/([^/]+)/.exec(file)?.[1] ?? []));
    assert.deepEqual([...ours].toSorted(), ['LICENSE', 'bin', 'dist', 'node_modules', 'package.json', 'proto']);
    const suspicious = /\.(key|token|p12|pfx|jwt)$|(^|\/)(\.env|\.npmrc|\.signet)(\/|$)/;
    assert.deepEqual(
      facts.files.filter((file) => suspicious.test(file) && !file.includes('/node_modules/')),
      [],
    );
    assert.doesNotMatch(facts.history, /_authToken|password|secret|PRIVATE KEY/i);
    assert.deepEqual(
      facts.environment.filter((line) => /token|password|secret|key/i.test(line)),
      [],
    );
  });

  it('comes up from nothing, all of it healthy', async () => {
    await mesh.run(['up', '--detach', '--wait', '--wait-timeout', '180'], 240_000);
    for (const { service, state, health, exitCode } of await mesh.containers()) {
      if (passing.includes(service)) assert.deepEqual({ service, state, exitCode }, { service, state: 'exited', exitCode: 0 });
      else assert.deepEqual({ service, state, health }, { service, state: 'running', health: 'healthy' });
    }
  });

  it('gives no container a right that it does not need', async () => {
    const names = (await mesh.containers()).map(({ service }) => service);
    assert.ok(names.length >= 19);
    for (const [i, { Config, HostConfig }] of (await inspect(names)).entries()) {
      const service = names[i];
      assert.equal(Config.User, '65532:65532', service);
      assert.equal(HostConfig.ReadonlyRootfs, true, service);
      assert.equal(HostConfig.Privileged, false, service);
      assert.deepEqual(HostConfig.CapDrop, ['ALL'], service);
      assert.deepEqual(HostConfig.CapAdd ?? [], [], service);
      assert.ok(HostConfig.SecurityOpt.includes('no-new-privileges:true'), service);
    }
  });

  it('answers a person at the front page, each hop by the identity before it', async () => {
    const response = await fetch(`http://${await mesh.published('web-envoy', 8000)}/`, { signal: AbortSignal.timeout(10_000) });
    assert.equal(response.status, 200);
    const caller = (service: string): string => `spiffe://cluster.local/ns/shop/sa/${service}`;
    assert.deepEqual(await response.json(), {
      service: 'web',
      caller: '',
      next: {
        service: 'orders',
        caller: caller('web'),
        next: { service: 'stock', caller: caller('orders'), next: { service: 'payments', caller: caller('stock') } },
      },
    });
  });

  it('refuses one without a certificate at every door', async () => {
    const lines = (await mesh.run(['logs', '--no-log-prefix', 'stranger'])).trim().split('\n');
    const tries = lines.map((line) => JSON.parse(line) as { readonly target: string; readonly refused: boolean });
    assert.deepEqual(
      tries.map(({ target }) => target),
      services.flatMap((service) => [`${service}:15006`, `${service}:15006`]),
    );
    assert.ok(tries.every(({ refused }) => refused));
    // And from outside, by the port that is published for it.
    const [host = '', port = ''] = (await mesh.published('orders-envoy', 15006)).split(':');
    for (const tried of await knock({ host, port: Number(port) })) assert.equal(tried.refused, true, JSON.stringify(tried));
  });

  it('rotates three times in every Envoy, through a restart of the server, and no request fails', async (t) => {
    const serials = watchSerials(mesh, envoys);
    await serials.until(2, 120_000);
    await mesh.run(['restart', 'signet']);
    for (const [envoy, count] of await serials.until(4, 240_000)) t.diagnostic(`${envoy}: ${String(count - 1)} rotations by /certs`);
    const last = await eventually(
      'three rotations as the load generator sees them',
      async () => {
        const line = (await mesh.load()).at(-1);
        return line?.services.every(({ distinctSerials }) => distinctSerials >= 4) ? line : undefined;
      },
      240_000,
      1000,
    );
    t.diagnostic(JSON.stringify(last));
    assert.equal(last.failed, 0, JSON.stringify(last));
    assert.deepEqual(
      last.services.map(({ name }) => name),
      services,
    );
  });

  it('asks at least twenty times a second', async () => {
    const lines = await mesh.load();
    const [first, last] = [lines.at(0), lines.at(-1)];
    assert.ok(first && last && lines.length > 5);
    const seconds = (Date.parse(last.at) - Date.parse(first.at)) / 1000;
    // Lines have whole seconds.
    assert.ok((last.requests - first.requests) / (seconds - 1) >= 20, `${String(last.requests - first.requests)} in ${String(seconds)} s`);
  });

  it('has every certificate on record, each in the key mode of its identity', async () => {
    const listed = JSON.parse(await mesh.run(['exec', '--no-TTY', 'signet', 'signet', 'certs', 'list', '--json'])) as readonly {
      readonly spiffeId: string;
      readonly keyMode: string;
    }[];
    const modes = new Set(listed.map(({ spiffeId, keyMode }) => `${spiffeId} ${keyMode}`));
    assert.deepEqual(
      [...modes].toSorted(),
      // Signed: by a CSR, whose key the agent, or the load generator, made for itself.
      ['load signed', 'orders csr', 'payments signed', 'stock signed', 'web server'].map(
        (mode) => `spiffe://cluster.local/ns/shop/sa/${mode}`,
      ),
    );
  });

  it('keeps an Envoy that has an agent away from the server', async () => {
    const [stock, sidecar, payments] = await inspect(['stock-envoy', 'payments-agent', 'payments-envoy']);
    assert.deepEqual(Object.keys(stock?.NetworkSettings.Networks ?? {}), ['signet-demo_mesh']);
    // And the sidecar shares the network namespace of its Envoy.
    assert.equal(sidecar?.HostConfig.NetworkMode, `container:${String(payments?.Id)}`);
  });

  it('ends cleanly, and leaves nothing', async (t) => {
    await mesh.run(['stop'], 120_000);
    const last = (await mesh.load()).at(-1);
    t.diagnostic(JSON.stringify({ requests: last?.requests, failed: last?.failed }));
    assert.deepEqual({ ended: last?.ended, failed: last?.failed }, { ended: true, failed: 0 });
    assert.deepEqual(
      (await mesh.containers()).filter(({ state, exitCode }) => state !== 'exited' || exitCode !== 0),
      [],
    );
    await mesh.run(['down', '--volumes']);
    assert.deepEqual(await mesh.containers(), []);
    assert.equal(await engine.docker(['volume', 'ls', '--quiet']), '');
  });
});
