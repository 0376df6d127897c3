import { cp, mkdtemp, readFile, realpath, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defaultEnvoyVersion, envoyBinary } from '../../../src/cli/envoy-binary.ts';
import { cached, runOrFail } from '../../support/test-cache.ts';
import { tempFolder } from '../../support/temp.ts';
import type { DockerEngine } from './docker-engine.ts';
import { programPath } from './programs.ts';

/** What the project's files ask for by public names: of the very versions that the other tests run. */
const nodeImage = `node:${process.versions.node}-bookworm-slim`;
const envoyImage = `envoyproxy/envoy:v${defaultEnvoyVersion}`;
const debianImage = 'signet-test/debian:bookworm';

const debootstrapMs = 600_000;
/** As on the host: inside of a build the registry is reached through whatever the host trusts. */
const hostAuthorities = '/etc/ssl/certs/ca-certificates.crt';

/**
 * Makes stand-ins under the public names of the base images, from Debian's packages, this Node, and the Envoy of the tests:
 * no registry of images is asked, and the project's own files are built as they are. They have what those files use of the
 * real ones: Node with npm and a shell; Envoy on the path, with a shell for its health check.
 */
export async function makeBaseImages(engine: DockerEngine): Promise<void> {
  await checkNames('Dockerfile', nodeImage);
  await checkNames('docker-compose.yml', envoyImage);
  const missing = async (image: string): Promise<boolean> => (await engine.docker(['image', 'ls', '--quiet', image])).trim() === '';
  if (await missing(debianImage)) await engine.docker(['import', await debianRoot(), debianImage]);
  if (await missing(nodeImage)) {
    await build(engine, nodeImage, async (context) => {
      await cp(process.execPath, join(context, 'node'));
      await cp(await npmFolder(), join(context, 'npm'), { recursive: true, dereference: true });
      await cp(hostAuthorities, join(context, 'authorities.crt'));
      return `
        COPY node /usr/local/bin/node
        COPY npm /usr/local/lib/node_modules/npm
        COPY authorities.crt ${hostAuthorities}
        ENV NODE_EXTRA_CA_CERTS=${hostAuthorities} npm_config_cafile=${hostAuthorities}
        RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
        CMD ["node"]`;
    });
  }
  if (await missing(envoyImage)) {
    await build(engine, envoyImage, async (context) => {
      await cp(await envoyBinary(), join(context, 'envoy'));
      return `
        COPY envoy /usr/local/bin/envoy
        CMD ["envoy", "-c", "/etc/envoy/envoy.yaml"]`;
    });
  }
}

async function checkNames(file: string, image: string): Promise<void> {
  const text = await readFile(fileURLToPath(new URL(`../../../${file}`, import.meta.url)), 'utf8');
  if (!text.includes(image)) throw new Error(`${file} pins another version than the tests run, ${image}`);
}

/** The classic builder: it needs no plugin of any client, and these have no stage to run side by side. */
async function build(engine: DockerEngine, image: string, fill: (context: string) => Promise<string>): Promise<void> {
  await using context = await tempFolder();
  const steps = await fill(context.path);
  await writeFile(context.file('Dockerfile'), `FROM ${debianImage}\n${steps.replaceAll(/^ +/gm, '')}\n`);
  const env = { ...engine.env, DOCKER_BUILDKIT: '0' };
  await runOrFail('docker', ['build', '--quiet', '--network', 'none', '--tag', image, context.path], { env, timeoutMs: 300_000 });
}

/** A tar of a minimal Debian. */
async function debianRoot(): Promise<string> {
  const folder = await cached('debian-bookworm', async (place) => {
    process.stderr.write(`unpacking a minimal Debian, once, into ${place}\n`);
    const root = await mkdtemp(join(place, 'root-'));
    await runOrFail('debootstrap', ['--variant=minbase', '--include=ca-certificates', 'bookworm', root], { timeoutMs: debootstrapMs });
    const tar = join(place, 'root.tar');
    await runOrFail('tar', [
      '--directory',
      root,
      '--exclude',
      './var/cache/apt/*',
      '--exclude',
      './var/lib/apt/lists/*',
      '--create',
      '--file',
      `${tar}.part`,
      '.',
    ]);
    await rename(`${tar}.part`, tar);
    await rm(root, { recursive: true, force: true });
  });
  return join(folder, 'root.tar');
}

/** The npm of this host. */
async function npmFolder(): Promise<string> {
  const npm = await programPath('npm');
  if (npm === undefined) throw new Error('there is no npm on the path');
  // A link to npm/bin/npm-cli.js.
  return dirname(dirname(await realpath(npm)));
}
