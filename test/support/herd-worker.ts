/**
 * Agents that all ask at once, and again as soon as they are served: on a thread of their own, so that the load client's
 * deadlines judge Envoy and not this. They obey what they are told, and take nothing else for an answer than a certificate
 * or a time to come back.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import type { ServiceError } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { infoOf, retryAfterOf } from './grpc-caller.ts';
import { workloadClient } from './workload-client.ts';

export interface HerdOrder {
  readonly address: string;
  readonly serverCa: string;
  /** Of each agent. */
  readonly tokens: readonly string[];
  readonly certificatesEach: number;
}

export interface HerdOutcome {
  readonly served: number;
  readonly seconds: number;
  /** How often each reason was given. */
  readonly refusals: ReadonlyMap<string, number>;
  readonly mostTries: number;
}

const { address, serverCa, tokens, certificatesEach } = workerData as HerdOrder;
const refusals = new Map<string, number>();

async function agent(token: string): Promise<number> {
  const client = workloadClient({ address, serverCa: Buffer.from(serverCa), token });
  let tries = 0;
  try {
    for (let i = 0; i < certificatesEach; i++) {
      const csr = createCsr(generateKeyPair(), []);
      for (let served = false; !served; ) {
        tries++;
        try {
          await client.sign({ csr });
          served = true;
        } catch (error) {
          await sleep(comeBackAfter(error as ServiceError));
        }
      }
    }
    return tries;
  } finally {
    client.close();
  }
}

function comeBackAfter({ code, details, metadata }: ServiceError): number {
  const after = retryAfterOf(metadata);
  assert.ok([status.RESOURCE_EXHAUSTED, status.UNAVAILABLE].includes(code) && after !== undefined, `${String(code)}: ${details}`);
  const reason = infoOf(metadata).reason ?? '';
  refusals.set(reason, (refusals.get(reason) ?? 0) + 1);
  return after;
}

const began = performance.now();
const tries = await Promise.all(tokens.map(agent));
const outcome: HerdOutcome = {
  served: tries.length * certificatesEach,
  seconds: (performance.now() - began) / 1000,
  refusals,
  mostTries: Math.max(...tries),
};
parentPort?.postMessage(outcome);
