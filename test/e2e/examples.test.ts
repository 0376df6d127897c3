/**
 * Every file of envoy-examples/ as it is shipped, but for ports and paths: a real Envoy takes it, gets its identity and
 * trust from Signet, serves whoever has a certificate of the trust domain, and nobody else.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { defaultEnvoyVersion, envoyBinary } from '../../src/cli/envoy-binary.ts';
import { examples, examplesFolder, renderExamples, type Example } from '../support/envoy-examples.ts';
import { startMesh, idOf, type Mesh, type Workload } from '../support/mesh.ts';
import { requestOnce, tlsIdentity } from '../support/mtls-request.ts';
import { foreignCa, foreignLeaf } from '../support/openssl.ts';
import { freePort } from '../support/ports.ts';
import { runProgram } from '../support/process.ts';
import { tempFolder } from '../support/temp.ts';

const versions = [defaultEnvoyVersion, '1.36.4'] as const;

/** Before 1.37 Envoy refuses the prefix of the credential injector, so those files have a variant of their own. */
function isFor(example: Example, version: string): boolean {
  return version === defaultEnvoyVersion || example.auth !== 'envoy-grpc-token' || example.envoyVersion !== undefined;
}

describe('envoy-examples/', () => {
  it('is what the generator renders, file by file', () => {
    const rendered = renderExamples();
    const shipped = readdirSync(examplesFolder).filter((name) => name.endsWith('.yaml'));
    assert.deepEqual(shipped.toSorted(), [...rendered.keys()].toSorted());
    for (const [name, text] of rendered) {
      assert.equal(readFileSync(join(examplesFolder, name), 'utf8'), text, `${name}: run npx node test/support/envoy-examples.ts`);
    }
  });

  it('is explained, file by file', () => {
    const readme = readFileSync(join(examplesFolder, 'README.md'), 'utf8');
    for (const name of renderExamples().keys()) assert.ok(readme.includes(name), `README.md says nothing of ${name}`);
  });

  it('keeps a static guard, checks the server and says the node once', () => {
    for (const [name, text] of renderExamples()) {
      if (name.endsWith('-secret.yaml')) continue;
      assert.ok(text.includes('prefix: "spiffe://cluster.local/"'), name);
      assert.ok(text.includes('require_client_certificate: true'), name);
      assert.ok(text.includes('set_node_on_first_message_only: true'), name);
      assert.equal(text.includes('exact: "spiffe://cluster.local/signet/server"'), !/^(google-grpc|agent)-/.test(name), name);
      assert.equal(text.match(/&signet/g)?.length, 1, `${name}: one ConfigSource, by anchor`);
      assert.equal(text.match(/sds_config: \*signet/g)?.length, 3, name);
    }
  });

  it('is accepted by `envoy --mode validate`', async () => {
    await using folder = await tempFolder();
    const ca = await foreignCa();
    await mkdir(folder.file('bootstrap'));
    await mkdir(folder.file('token'));
    await Promise.all([
      writeFile(folder.file('server-ca.pem'), ca.certificate),
      writeFile(folder.file('bootstrap/tls.crt'), ca.certificate),
      writeFile(folder.file('bootstrap/tls.key'), ca.key),
      writeFile(folder.file('token/token'), 'token'),
    ]);
    for (const [name, text] of renderExamples()) await writeFile(folder.file(name), text.replaceAll('/etc/signet', folder.path));
    for (const version of versions) {
      const binary = await envoyBinary(version);
      for (const example of examples.filter((one) => isFor(one, version))) {
        const ran = await runProgram(binary, ['--mode', 'validate', '-c', folder.file(example.name), '--log-level', 'error']);
        // With google_grpc Envoy gives its verdict and then crashes while it cleans up, in validation mode alone.
        assert.match(ran.stdout, /configuration '.*' OK/, `${example.name} on ${version}: ${ran.stderr}`);
      }
    }
  });
});

/** The example's text with the paths and ports of this test. */
function placed(text: string, places: { folder: string; signet: number; upstream: number; outbound: number; app: number }): string {
  const ports: Readonly<Record<string, number>> = {
    '9901': 0,
    '10443': 0,
    '8000': places.app,
    '10001': places.outbound,
    '11443': places.upstream,
    '8443': places.signet,
  };
  return text
    .replaceAll('/etc/signet', places.folder)
    .replaceAll('/run/signet/web', join(places.folder, 'agent'))
    .replaceAll(/port_value: (\d+)/g, (whole, port: string) => `port_value: ${String(ports[port] ?? whole)}`)
    .replaceAll('127.0.0.1:8443', `127.0.0.1:${String(places.signet)}`);
}

describe('first light with every example', () => {
  let mesh: Mesh;
  let payments: Workload;
  let app: Server;
  let appPort: number;
  let accounts = 0;

  before(async () => {
    mesh = await startMesh({ leafTtl: '10m' });
    payments = await mesh.workload({ serviceAccount: 'payments' });
    // The application behind every example: it goes on to payments by its own Envoy, and says who called.
    app = createServer((request, response) => {
      response.end(String(request.headers['x-forwarded-client-cert']));
    });
    await new Promise<void>((resolve) => app.listen(0, '127.0.0.1', resolve));
    const address = app.address();
    assert.ok(address !== null && typeof address === 'object');
    appPort = address.port;
  });
  after(async () => {
    app.close();
    await mesh[Symbol.asyncDispose]();
  });

  for (const version of versions) {
    for (const example of examples.filter((one) => isFor(one, version))) {
      // Whose keys are an agent's has no key mode to choose.
      for (const mode of example.auth === 'agent' ? ['agent'] : ['server', 'csr']) {
        // An identity of its own each time: how often one may bind a key is limited.
        const serviceAccount = `${mode === 'csr' ? 'csr-' : ''}web-${String(++accounts)}`;
        it(`${example.name}, key mode ${mode}, Envoy ${version}`, async () => {
          const outbound = await freePort();
          const text = readFileSync(join(examplesFolder, example.name), 'utf8');
          const workload = await mesh.workload({
            serviceAccount,
            version,
            auth: example.auth,
            api: example.api,
            // The generator's own text is put aside for the shipped file; the files it names lie where it says.
            bootstrap: (_text, folder) =>
              placed(text, { folder, signet: mesh.signet.grpcPort, upstream: payments.port, outbound, app: appPort }),
          });
          await using envoy = workload.envoy;
          const id = idOf(serviceAccount);

          for (const http of ['h1', 'h2'] as const)
            assert.match(await requestOnce(workload.target(http), mesh.client(), 10_000), /^[0-9a-f]+$/);
          const shown = await envoy.identities();
          assert.deepEqual([...new Set(shown.flatMap(({ uris }) => uris))], [id]);
          // Listener and cluster share one certificate; /certs also shows the one for Signet itself.
          const others = example.auth === 'client-certificate' ? 1 : 0;
          assert.equal(new Set(shown.map(({ serial }) => serial)).size, 1 + others);

          const onward = await fetch(`http://127.0.0.1:${String(outbound)}/`, { signal: AbortSignal.timeout(10_000) });
          assert.equal(onward.status, 200, 'by mTLS on to payments');

          const bundle = await mesh.bundle();
          await assert.rejects(
            requestOnce(workload.target('h1'), tlsIdentity(undefined, bundle), 10_000),
            'a client without a certificate',
          );
          const foreign = await foreignLeaf(await foreignCa(), { uri: idOf('client') });
          await assert.rejects(requestOnce(workload.target('h1'), tlsIdentity(foreign, bundle), 10_000), "another CA's certificate");
          assert.equal(await envoy.stat(`sds.default.update_rejected`), 0);
          assert.equal(await envoy.stat(`sds.ROOTCA.update_rejected`), 0);
        });
      }
    }
  }
});
