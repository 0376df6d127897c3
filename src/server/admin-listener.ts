import { Server, ServerCredentials } from '@grpc/grpc-js';
import { chmod, lstat, unlink } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { dirname } from 'node:path';
import { SignetError } from '../base/errors.ts';
import { longestSocketPath } from './config/defaults.ts';
import { defaultGrpcLimits, serverOptions, shutDown } from './grpc-listener.ts';
import { listenError } from './listen-error.ts';

export interface AdminListener {
  readonly path: string;
  close(graceMs: number): Promise<void>;
}

const probeMs = 1000;

/**
 * gRPC on a unix socket. The folder is the door: who may enter it may do everything, so it must be ours and 0700.
 * A socket left over from a server that died is removed, so call this only while holding the data folder's lock.
 * Throws CONFIG_INVALID.
 */
export async function openAdminListener(options: {
  readonly path: string;
  readonly register: (server: Server) => void;
}): Promise<AdminListener> {
  const { path } = options;
  const size = Buffer.byteLength(path);
  if (size > longestSocketPath) {
    throw new SignetError(
      'CONFIG_INVALID',
      `listen.admin: a unix socket's path has at most ${String(longestSocketPath)} bytes, ${path} has ${String(size)}: choose a shorter data folder`,
    );
  }
  await checkFolder(dirname(path));
  await removeStale(path);

  const server = new Server(serverOptions({ ...defaultGrpcLimits, maxConnectionAgeMs: 86_400_000, maxConnections: 100 }));
  options.register(server);
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) => {
      if (error) reject(listenError('listen.admin', path, error));
      else resolve();
    });
  });
  await chmod(path, 0o600);
  return { path, close: (graceMs) => shutDown(server, graceMs) };
}

async function checkFolder(folder: string): Promise<void> {
  let stats;
  try {
    stats = await lstat(folder);
  } catch (error) {
    throw listenError('listen.admin', folder, error);
  }
  if (!stats.isDirectory()) throw new SignetError('CONFIG_INVALID', `listen.admin: ${folder} is not a folder`);
  const own = process.geteuid?.();
  if (own !== undefined && stats.uid !== own) {
    throw new SignetError(
      'CONFIG_INVALID',
      `listen.admin: ${folder} belongs to user ${String(stats.uid)}, not to the user ${String(own)} that runs Signet, and its owner would be an operator: chown it, or choose another folder`,
    );
  }
  if ((stats.mode & 0o077) !== 0) {
    throw new SignetError(
      'CONFIG_INVALID',
      `listen.admin: others may enter ${folder}, and whoever may is an operator: chmod 0700 ${folder}, or choose another folder`,
    );
  }
}

async function removeStale(path: string): Promise<void> {
  const stats = await lstat(path).catch(() => undefined);
  if (!stats) return;
  if (!stats.isSocket()) throw new SignetError('CONFIG_INVALID', `listen.admin: ${path} is there already and is no socket`);
  if (await answers(path)) throw new SignetError('CONFIG_INVALID', `listen.admin: another server answers at ${path}`);
  await unlink(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ path, timeout: probeMs });
    const settle = (answer: boolean) => () => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', settle(true));
    // A full backlog takes no connection, but somebody is there.
    socket.once('timeout', settle(true));
    socket.once('error', settle(false));
  });
}
