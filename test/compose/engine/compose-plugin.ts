import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cached, runOrFail } from '../../support/test-cache.ts';

/** The version in docker-compose/go.mod. */
const version = '2.40.3';
const buildMs = 900_000;

/**
 * Docker Compose, built once from its Go module into the cache of the tests: Debian's is the old one in Python. Its own
 * go.mod has `exclude` lines, which `go install` refuses, so that a go.mod of ours names it.
 */
export async function composePlugin(): Promise<string> {
  const folder = await cached(`docker-compose-${version}`, async (place) => {
    process.stderr.write(`building Docker Compose ${version}, once, into ${place}\n`);
    // Where nothing can touch what is committed.
    const source = join(place, 'source');
    await cp(fileURLToPath(new URL('docker-compose', import.meta.url)), source, { recursive: true });
    const ldflags = `-s -w -X github.com/docker/compose/v2/internal.Version=v${version}`;
    await runOrFail(
      'go',
      [
        'build',
        '-C',
        source,
        '-mod=readonly',
        '-trimpath',
        '-ldflags',
        ldflags,
        '-o',
        join(place, 'docker-compose'),
        'github.com/docker/compose/v2/cmd',
      ],
      { env: { ...process.env, CGO_ENABLED: '0' }, timeoutMs: buildMs },
    );
  });
  return join(folder, 'docker-compose');
}
