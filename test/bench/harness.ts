import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { startServerUnderTest } from './server-under-test.ts';

const harnessIssuer = 'http://127.0.0.1:15099';

/** What the tool printed. */
export async function run(harness: string, tool: string, args: readonly string[], cpus?: string): Promise<string> {
  const command = [join(harness, 'bin', tool), ...args];
  const [program = '', ...rest] = cpus === undefined ? command : ['taskset', '-c', cpus, ...command];
  const child = spawn(program, rest, { cwd: harness, stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  const [code] = (await once(child, 'close')) as [number];
  if (code !== 0) throw new Error(`${tool} ended with ${String(code)}: ${output.slice(0, 500)}`);
  return output;
}

export interface Peer {
  readonly pid: number;
  stop(): Promise<void>;
}

export function startPeer(harness: string, tool: string, args: readonly string[], cpus?: string): Promise<Peer> {
  return startProgram(harness, join(harness, 'bin', tool), args, cpus);
}

export async function startProgram(cwd: string, path: string, args: readonly string[], cpus?: string): Promise<Peer> {
  const command = [path, ...args];
  const [program = '', ...rest] = cpus === undefined ? command : ['taskset', '-c', cpus, ...command];
  const child = spawn(program, rest, { cwd, stdio: ['ignore', 'pipe', 'inherit'] });
  for await (const line of createInterface({ input: child.stdout })) if (line.startsWith('ready')) break;
  child.stdout.resume();
  return {
    pid: child.pid ?? 0,
    async stop() {
      const exited = once(child, 'exit');
      child.kill('SIGTERM');
      await exited;
    },
  };
}

/** Of a peer server, for the files that gen wrote. */
export function fixtureFlags(fixtures: string): string[] {
  return [
    '-jwks',
    join(fixtures, 'jwks.json'),
    '-tls-cert',
    join(fixtures, 'tls-server.pem'),
    '-tls-key',
    join(fixtures, 'tls-server.key'),
  ];
}

export interface Signet extends Peer {
  readonly address: string;
  /** A file. */
  readonly ca: string;
  /** POSTed to, changes the bundle: as a peer server is told to, so that no start of a shell is in what is measured. */
  readonly changeUrl: string;
}

export async function startSignet(folder: string, jwksFile: string, cpus: string | undefined, spareRoots = false): Promise<Signet> {
  const server = await startServerUnderTest({
    folder,
    jwksFile,
    issuer: harnessIssuer,
    spareRoots,
    ...(cpus === undefined ? {} : { cpus }),
  });
  const trigger = createServer((_request, response) => {
    try {
      server.changeBundle();
    } catch (error) {
      response.statusCode = 500;
      response.write(String(error));
    }
    response.end();
  });
  trigger.listen(0, '127.0.0.1');
  await once(trigger, 'listening');
  return {
    pid: server.pid,
    address: server.grpc,
    ca: server.caFile,
    changeUrl: `http://127.0.0.1:${String((trigger.address() as AddressInfo).port)}/`,
    async stop() {
      trigger.close();
      trigger.closeAllConnections();
      await server.stop();
    },
  };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
