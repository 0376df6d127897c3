import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { cached } from './test-cache.ts';
import { endChild, keepTrack, runProgram } from './process.ts';

const sources = fileURLToPath(new URL('../istio/client/', import.meta.url));
const buildMs = 1_800_000;
const signMs = 60_000;

/** The program of test/istio/client, which is Istio's own packages and little else; built when its sources are new. */
export async function istioClient(): Promise<string> {
  const hash = createHash('sha256');
  for (const name of ['go.mod', 'go.sum', 'main.go']) hash.update(await readFile(join(sources, name)));
  const folder = await cached(`istio-client-${hash.digest('hex').slice(0, 16)}`, async (into) => {
    const built = await runProgram('go', ['build', '-C', sources, '-mod=readonly', '-trimpath', '-o', join(into, 'istio-client'), '.'], {
      timeoutMs: buildMs,
    });
    if (built.code !== 0) throw new Error(`go build failed: ${built.stderr.slice(-2000)}`);
  });
  return join(folder, 'istio-client');
}

/** Flags of the program, without their dashes. */
export type IstioSettings = Readonly<Record<string, string>>;

const answer = z.object({
  chain: z.array(z.string()).nullable(),
  seconds: z.number(),
  refused: z.string().optional(),
  fault: z.string().optional(),
});
export type IstioAnswer = z.output<typeof answer>;

/** One CSRSign by Istio's CA client, retries of its own included, and Istio's judgement of what it got. */
export async function istioSign(settings: IstioSettings): Promise<IstioAnswer> {
  const ran = await runProgram(await istioClient(), ['sign', ...flags(settings)], { timeoutMs: signMs });
  if (ran.code !== 0) throw new Error(`istio-client sign: ${ran.stderr.slice(-2000)}`);
  return answer.parse(JSON.parse(ran.stdout));
}

export interface IstioAgent extends AsyncDisposable {
  /** Where it serves SDS. */
  readonly socket: string;
  log(): string;
}

/** istio-agent's secret cache and SDS server, with `folder` as the root of a pod's file system. */
export async function startIstioAgent(folder: string, settings: IstioSettings): Promise<IstioAgent> {
  await mkdir(folder, { recursive: true });
  const child = spawn(await istioClient(), ['agent', ...flags(settings)], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  keepTrack(child);
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (log += chunk));
  const [line] = (await once(createInterface({ input: child.stdout }), 'line', { signal: AbortSignal.timeout(30_000) })) as [string];
  const socket = /^ready (\S+)$/.exec(line)?.[1];
  if (socket === undefined) throw new Error(`not a ready line: ${line}`);
  return { socket: join(folder, socket), log: () => log, [Symbol.asyncDispose]: () => endChild(child) };
}

function flags(settings: IstioSettings): string[] {
  return Object.entries(settings).map(([name, value]) => `-${name}=${value}`);
}
