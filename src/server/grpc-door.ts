import type { Server } from '@grpc/grpc-js';
import type { Clock } from '../base/clock.ts';
import type { DeadlineHeap } from '../base/deadline-heap.ts';
import type { Log } from '../base/log.ts';
import type { ControlPlaneCa } from '../ca/control-plane.ts';
import type { TrustBundle } from '../trust/trust-bundle.ts';
import { splitAddress } from '../config/address.ts';
import type { Config } from './config/schema.ts';
import type { ClientCas } from './external-certificates.ts';
import { connectionGraceFor, openGrpcListener } from './grpc-listener.ts';
import { openServingCertificates } from './serving-certificate.ts';

export interface GrpcDoor {
  /** HOST:PORT as bound. */
  readonly address: string;
  /** As the listener's: no new connections, and the end of those that there are. */
  close(graceMs: number): Promise<void>;
}

/**
 * The public listener, with what it shows of itself and whom it asks for a certificate: both change while it is open,
 * and hold for connections from then on. Throws CONFIG_INVALID if the address can't be had.
 */
export async function openGrpcDoor(parts: {
  readonly config: Config;
  readonly services: readonly { register(server: Server): void }[];
  readonly controlPlane: ControlPlaneCa;
  readonly trust: Pick<TrustBundle, 'current' | 'subscribe'>;
  readonly clientCas: ClientCas;
  readonly heap: DeadlineHeap;
  readonly clock: Clock;
  readonly log: Log;
}): Promise<GrpcDoor> {
  const { config, services, controlPlane, trust, clientCas, heap, clock, log } = parts;
  let swap = (): void => undefined;
  const serving = await openServingCertificates({
    ca: controlPlane,
    names: config.listen.names,
    heap,
    clock,
    log,
    changed: () => {
      swap();
    },
  });
  const material = () => ({ ...serving.current(), clientAnchorsPem: trust.current().anchors.pem + clientCas.pem() });
  try {
    const listener = await openGrpcListener({
      ...splitAddress(config.listen.grpc),
      material: material(),
      register(server) {
        for (const service of services) service.register(server);
      },
      log,
      limits: {
        streamsPerConnection: config.limits.streamsPerConnection,
        maxConnectionAgeMs: config.limits.maxConnectionAge,
        connectionGraceMs: connectionGraceFor(config.limits.maxStreamAge),
      },
    });
    swap = () => {
      listener.setMaterial(material());
    };
    const stops = [trust.subscribe(swap), clientCas.onChange(swap)];
    return {
      address: listener.address,
      async close(graceMs) {
        for (const stop of stops) stop();
        serving.close();
        await listener.close(graceMs);
      },
    };
  } catch (error) {
    serving.close();
    throw error;
  }
}
