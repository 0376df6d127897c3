import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { eventually } from '../eventually.ts';
import { freePort } from '../ports.ts';
import { endChild, keepTrack } from '../process.ts';
import { cached, installPython } from '../test-cache.ts';

const version = '5.2.5';

/**
 * moto, other people's emulation of AWS. Its limits: it checks no signature of a request, hashes a digest again before it
 * signs it, makes every certificate 365 days long and its CA keys RSA, and honours templates in part.
 */
export interface Moto extends AsyncDisposable {
  readonly version: string;
  readonly url: string;
}

export async function startMoto(): Promise<Moto> {
  const folder = await cached(`moto-${version}`, (into) => installPython(into, `moto[server,kms,acmpca]==${version}`));
  const port = await freePort();
  const url = `http://127.0.0.1:${String(port)}`;
  const child = spawn(join(folder, 'bin', 'moto_server'), ['-H', '127.0.0.1', '-p', String(port)], { stdio: 'ignore' });
  keepTrack(child);
  await eventually('moto answers', async () => ((await fetch(`${url}/moto-api/data.json`)).ok ? true : undefined), 60_000);
  return { version, url, [Symbol.asyncDispose]: () => endChild(child) };
}
