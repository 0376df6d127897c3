import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { eventually, Hopeless } from '../../support/eventually.ts';
import { endChild, keepTrack, runProgram } from '../../support/process.ts';
import type { Ran } from '../../support/process.ts';
import { runOrFail, testCache } from '../../support/test-cache.ts';
import { tempFolder } from '../../support/temp.ts';
import { composePlugin } from './compose-plugin.ts';
import { requirePrograms } from './programs.ts';

/** A real Docker engine of the tests' own: reached by a unix socket alone, its images in the cache of the tests. */
export interface DockerEngine extends AsyncDisposable {
  /** For children that talk to this engine. */
  readonly env: NodeJS.ProcessEnv;
  /** `docker ARGS`; throws unless it ends with 0. Gives stdout. */
  docker(args: readonly string[], timeoutMs?: number): Promise<string>;
  /** `docker compose ARGS`, whatever its exit code. */
  compose(args: readonly string[], timeoutMs?: number): Promise<Ran>;
}

const stopMs = 60_000;

/**
 * Starts the engine. It changes nothing of this host's packet filter and has no default bridge: networks that are asked
 * for work, addresses outside of this host don't.
 */
export async function startDockerEngine(): Promise<DockerEngine> {
  const { dockerd } = await requirePrograms();
  const plugin = await composePlugin();
  const images = join(testCache(), 'docker-engine');
  await mkdir(images, { recursive: true });
  const folder = await tempFolder();
  const socket = folder.file('docker.sock');
  const log = folder.file('dockerd.log');
  const settings = folder.file('daemon.json');
  // What builds leave in the cache is bounded.
  await writeFile(settings, JSON.stringify({ builder: { gc: { enabled: true, defaultKeepStorage: '2GB' } } }));
  const child = spawn(
    dockerd,
    [
      '--config-file',
      settings,
      '--host',
      `unix://${socket}`,
      '--data-root',
      images,
      '--exec-root',
      folder.file('exec'),
      '--pidfile',
      folder.file('docker.pid'),
      '--bridge=none',
      '--iptables=false',
      '--ip6tables=false',
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  keepTrack(child);
  child.stderr.pipe(createWriteStream(log));
  const config = folder.file('config');
  const env = { ...process.env, DOCKER_HOST: `unix://${socket}`, DOCKER_CONFIG: config, DOCKER_BUILDKIT: '1', COMPOSE_ANSI: 'never' };
  const stop = async (): Promise<void> => {
    await endChild(child, 'SIGTERM', stopMs);
    // The engine makes its folder a mount of its own and forgets to take that back; whoever clears the cache would stumble.
    await runProgram('umount', [images]);
    await folder[Symbol.asyncDispose]();
  };
  try {
    await mkdir(config);
    await eventually(
      'the Docker engine',
      async () => {
        if (child.exitCode !== null)
          throw new Hopeless(`dockerd ended (does another one use ${images}?): ${(await readFile(log, 'utf8')).slice(-3000)}`);
        const ran = await runProgram('docker', ['info'], { env });
        return ran.code === 0 ? true : undefined;
      },
      60_000,
    );
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    env,
    docker: (args, timeoutMs = 120_000) => runOrFail('docker', args, { env, timeoutMs }),
    compose: (args, timeoutMs = 300_000) => runProgram(plugin, args, { env, timeoutMs }),
    [Symbol.asyncDispose]: stop,
  };
}
