import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SignetError } from '../../base/errors.ts';
import { replaceFile } from '../../store/atomic-file.ts';
import { renderEnvoyFiles } from '../envoy-config/bootstrap.ts';
import type { EnvoyAddress, EnvoyInbound, EnvoySettings, EnvoyUpstream } from '../envoy-config/settings.ts';
import { startChild } from './child.ts';
import type { Child } from './child.ts';

export interface SidecarSettings {
  readonly name: string;
  readonly folder: string;
  readonly tokenFile: string;
  readonly trustDomain: string;
  readonly server: EnvoyAddress;
  readonly serverCaFile: string;
  readonly adminPort: number;
  readonly api: EnvoySettings['api'];
  readonly inbound: EnvoyInbound;
  readonly upstreams: readonly EnvoyUpstream[];
}

const readyMs = 30_000;

/** An Envoy beside a service; resolves once it says that it is ready. */
export async function startSidecar(binary: string, settings: SidecarSettings, signal: AbortSignal): Promise<Child> {
  const { name, folder, tokenFile, trustDomain, server, serverCaFile, api, inbound, upstreams } = settings;
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const { bootstrap } = renderEnvoyFiles({
    node: { id: name, cluster: 'demo' },
    trustDomain,
    auth: { kind: 'google-grpc-token', tokenFile },
    api,
    server,
    serverCaFile,
    admin: { host: '127.0.0.1', port: settings.adminPort },
    inbound,
    upstreams,
    envoyVersion: undefined,
  });
  const file = join(folder, 'envoy.yaml');
  replaceFile(file, bootstrap);
  // Two on one host would share the memory segment of hot restart.
  const args = ['-c', file, '--concurrency', '1', '--disable-hot-restart', '--log-level', 'warning'];
  const child = startChild(`Envoy ${name}`, binary, args, { logFile: join(folder, 'envoy.log') });
  const end = Date.now() + readyMs;
  while (!(await isReady(settings.adminPort))) {
    if (child.ended || Date.now() > end || signal.aborted) {
      const tail = await child.logTail();
      await child.stop();
      signal.throwIfAborted();
      throw new SignetError('INTERNAL', `Envoy ${name} did not start`, { cause: new Error(`Envoy ${name} did not start:\n${tail}`) });
    }
    await sleep(50);
  }
  return child;
}

async function isReady(adminPort: number): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${String(adminPort)}/ready`, { signal: AbortSignal.timeout(1000) });
    await response.body?.cancel();
    return response.ok;
  } catch {
    return false;
  }
}
