import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { eventually, Hopeless } from './eventually.ts';
import { endChild, keepTrack } from './process.ts';
import { cached, install, installPython } from './test-cache.ts';

/** Clients of the Workload API that others wrote, installed once into the cache of the tests. */
const spiffePackage = 'spiffe==0.3.2';
const goFolder = fileURLToPath(new URL('../conformance/go/', import.meta.url));
const pythonClient = fileURLToPath(new URL('../conformance/python/client.py', import.meta.url));

export interface GoPrograms {
  /** test/conformance/go/main.go, on go-spiffe. */
  readonly client: string;
  readonly spiffeHelper: string;
}

export async function goPrograms(): Promise<GoPrograms> {
  const hash = createHash('sha256');
  for (const file of ['go.mod', 'go.sum', 'main.go']) hash.update(await readFile(join(goFolder, file)));
  const folder = await cached(`conformance-go-${hash.digest('hex').slice(0, 16)}`, (to) =>
    install('go', [
      '-C',
      goFolder,
      'build',
      '-trimpath',
      '-ldflags=-s -w',
      '-o',
      to,
      '.',
      'github.com/spiffe/spiffe-helper/cmd/spiffe-helper',
    ]),
  );
  return { client: join(folder, 'conformance'), spiffeHelper: join(folder, 'spiffe-helper') };
}

/** What runs test/conformance/python/client.py. */
export async function pythonClientCommand(): Promise<readonly [string, string]> {
  const folder = await cached(`conformance-${spiffePackage.replace('==', '-')}`, (to) => installPython(to, spiffePackage));
  return [join(folder, 'bin', 'python'), pythonClient];
}

export type Line = Readonly<Record<string, unknown>>;

/** A program that prints lines of JSON, and reads lines. */
export interface TalkingProgram extends AsyncDisposable {
  /** The next line that this is true of, of those not taken yet. Throws when the program ended without it. */
  line(what: string, wanted: (line: Line) => boolean): Promise<Line>;
  say(text: string): void;
  /** Ends its input, and gives its exit code. */
  finish(): Promise<number | null>;
}

export function talkingProgram(file: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): TalkingProgram {
  const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, ...env } });
  keepTrack(child);
  const lines: Line[] = [];
  let [rest, errors] = ['', ''];
  let ended = false;
  child.stdin.on('error', () => undefined); // It may end without reading.
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (errors += chunk));
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    const complete = (rest + chunk).split('\n');
    rest = complete.pop() ?? '';
    for (const text of complete) lines.push(JSON.parse(text) as Line);
  });
  const closed = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      ended = true;
      resolve(code);
    });
  });
  closed.catch(() => undefined);
  return {
    line: (what, wanted) =>
      eventually(what, () => {
        const at = lines.findIndex(wanted);
        if (at >= 0) return lines.splice(at, 1)[0];
        if (ended) throw new Hopeless(`${what}: the program ended: ${errors.slice(-2000)}`);
        return undefined;
      }),
    say(text) {
      child.stdin.write(`${text}\n`);
    },
    async finish() {
      child.stdin.end();
      return closed;
    },
    async [Symbol.asyncDispose]() {
      await endChild(child);
    },
  };
}
