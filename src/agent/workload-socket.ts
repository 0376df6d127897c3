import type { Server } from '@grpc/grpc-js';
import { defaultGrpcLimits } from '../api/grpc-server.ts';
import { openUnixListener } from '../api/unix-listener.ts';
import type { UnixListener } from '../api/unix-listener.ts';
import { makeSocketFolder, refuseLinks } from '../base/unix-socket.ts';
import type { Door } from '../base/unix-socket.ts';
import type { WorkloadConfig } from './config/schema.ts';
import { groupId } from './group.ts';

/** Local connections cost nothing to keep and are no load balancer's business. */
const limits = { ...defaultGrpcLimits, maxConnectionAgeMs: 7 * 86_400_000, connectionGraceMs: 7 * 86_400_000, maxConnections: 1000 };

/**
 * The socket of one workload. Node tells nobody who is at the other end of a unix socket, so each workload has a server of
 * its own, and its folder is the door: ours, as closed as it is configured, with no symbolic link on the way to it.
 * Throws CONFIG_INVALID.
 */
export async function openWorkloadSocket(options: {
  readonly workload: WorkloadConfig;
  /** Of the setting, for messages: `workloads[2]`. */
  readonly where: string;
  /** Everything that is served to the workload: SDS, and whatever else it speaks. */
  readonly services: readonly { register(server: Server): void }[];
}): Promise<UnixListener> {
  const { workload, where, services } = options;
  const door: Door = {
    setting: `${where}.socket`,
    path: workload.socket,
    folderMode: workload.mode === '0750' ? 0o750 : 0o700,
    gid: workload.group === undefined ? undefined : await groupId(`${where}.group`, workload.group),
    entrant: `the workload ${workload.name}`,
  };
  await refuseLinks(door);
  await makeSocketFolder(door);
  // Once more, with the folder there: what wasn't there at first could have become a link.
  await refuseLinks(door);
  return openUnixListener({
    door,
    limits,
    register(server) {
      for (const service of services) service.register(server);
    },
  });
}
