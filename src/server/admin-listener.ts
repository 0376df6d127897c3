import type { Server } from '@grpc/grpc-js';
import { defaultGrpcLimits } from '../api/grpc-server.ts';
import { openUnixListener } from '../api/unix-listener.ts';
import type { UnixListener } from '../api/unix-listener.ts';

const limits = { ...defaultGrpcLimits, maxConnectionAgeMs: 86_400_000, maxConnections: 100 };

/**
 * The admin API's socket: who may enter its folder may do everything, so it must be ours and 0700. A socket left over from
 * a server that died is removed, so call this only while holding the data folder's lock. Throws CONFIG_INVALID.
 */
export function openAdminListener(options: { readonly path: string; readonly register: (server: Server) => void }): Promise<UnixListener> {
  const door = { setting: 'listen.admin', path: options.path, folderMode: 0o700, entrant: 'an operator' } as const;
  return openUnixListener({ door, limits, register: options.register });
}
