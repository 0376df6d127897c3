import { Server, ServerCredentials } from '@grpc/grpc-js';
import { chmod, chown } from 'node:fs/promises';
import { listenError } from '../base/listen-error.ts';
import { checkSocketFolder, checkSocketPath, removeStaleSocket } from '../base/unix-socket.ts';
import type { Door } from '../base/unix-socket.ts';
import { serverOptions, shutDown } from './grpc-server.ts';
import type { GrpcLimits } from './grpc-server.ts';

export interface UnixListener {
  readonly path: string;
  close(graceMs: number): Promise<void>;
}

/**
 * gRPC in clear on a unix socket. The folder is the door, so it must be ours and as closed as it is meant to be. A socket
 * left over from a process that died is removed. Throws CONFIG_INVALID.
 */
export async function openUnixListener(options: {
  readonly door: Door;
  readonly limits: GrpcLimits;
  readonly register: (server: Server) => void;
}): Promise<UnixListener> {
  const { door, limits } = options;
  const { setting, path, folderMode, gid } = door;
  checkSocketPath(door);
  await checkSocketFolder(door);
  await removeStaleSocket(door);

  const server = new Server(serverOptions(limits));
  options.register(server);
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) => {
      if (error) reject(listenError(setting, path, error));
      else resolve();
    });
  });
  try {
    // Connecting takes the right to write (unix(7)). Until here the folder alone keeps the door.
    if (gid !== undefined && folderMode === 0o750) await chown(path, -1, gid);
    await chmod(path, folderMode === 0o750 ? 0o660 : 0o600);
  } catch (error) {
    await shutDown(server, 0);
    throw listenError(setting, path, error);
  }
  return { path, close: (graceMs) => shutDown(server, graceMs) };
}
