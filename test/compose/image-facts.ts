import { mkdir, readFile, readdir } from 'node:fs/promises';
import { runProgram } from '../support/process.ts';
import { runOrFail } from '../support/test-cache.ts';
import { tempFolder } from '../support/temp.ts';
import type { DockerEngine } from './engine/docker-engine.ts';

export interface ImageFacts {
  readonly user: string;
  readonly megabytes: number;
  readonly healthcheck: readonly string[];
  readonly environment: readonly string[];
  /** The commands that made it, as `docker history` gives them. */
  readonly history: string;
  /** Every file of every layer, deleted in a later one or not. */
  readonly files: readonly string[];
  /** Those that hold a private key in PEM or a signed token. */
  readonly secretsIn: readonly string[];
}

interface Inspected {
  readonly Size: number;
  readonly Config: { readonly User: string; readonly Env: readonly string[]; readonly Healthcheck?: { readonly Test: readonly string[] } };
}

/** Takes an image apart, layer by layer. */
export async function imageFacts(engine: DockerEngine, image: string): Promise<ImageFacts> {
  const [inspected] = JSON.parse(await engine.docker(['image', 'inspect', image])) as [Inspected];
  const history = await engine.docker(['history', '--no-trunc', '--format', '{{.CreatedBy}}', image]);
  await using folder = await tempFolder();
  await engine.docker(['save', '--output', folder.file('image.tar'), image]);
  await runOrFail('tar', ['--extract', '--directory', folder.path, '--file', folder.file('image.tar')]);
  const [manifest] = JSON.parse(await readFile(folder.file('manifest.json'), 'utf8')) as [{ readonly Layers: readonly string[] }];
  const files: string[] = [];
  const secretsIn: string[] = [];
  for (const [i, layer] of manifest.Layers.entries()) {
    const place = folder.file(`layer-${String(i)}`);
    await mkdir(place);
    await runOrFail('tar', ['--extract', '--no-same-owner', '--directory', place, '--file', folder.file(layer)]);
    const names = await readdir(place, { recursive: true });
    files.push(...names);
    secretsIn.push(...(await filesWithSecrets(place)));
  }
  return {
    user: inspected.Config.User,
    megabytes: Math.round(inspected.Size / 1e6),
    healthcheck: inspected.Config.Healthcheck?.Test ?? [],
    environment: inspected.Config.Env,
    history,
    files,
    secretsIn,
  };
}

/** A PEM key with something in it (programs hold the bare markers), or a JWT with three parts. */
const secret = '-----BEGIN [A-Z ]*PRIVATE KEY-----\\s+[A-Za-z0-9+/=]{24}|eyJ[\\w-]{16,}\\.eyJ[\\w-]{16,}\\.[\\w-]{32,}';

export async function filesWithSecrets(folder: string): Promise<readonly string[]> {
  const grep = await runProgram('grep', ['-rlaPz', '-e', secret, folder]);
  // 1: nothing found.
  if (grep.code !== 0 && grep.code !== 1) throw new Error(`grep: ${grep.stderr}`);
  // -z makes a whole file one line, and ends the names that it prints with a newline all the same.
  return grep.stdout.split('\n').filter((name) => name !== '');
}
