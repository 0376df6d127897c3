import { Server, ServerCredentials } from '@grpc/grpc-js';
import { createDeadlineHeap } from '../../src/base/deadline-heap.ts';
import type { DeadlineHeap } from '../../src/base/deadline-heap.ts';
import { SignetError } from '../../src/base/errors.ts';
import type { Caller } from '../../src/identity/caller.ts';
import { createLedger } from '../../src/ledger/ledger.ts';
import type { Ledger } from '../../src/ledger/ledger.ts';
import { defaultSdsLimits } from '../../src/sds/limits.ts';
import type { SdsLimits } from '../../src/sds/limits.ts';
import type { Admission, SecretFeed, Shown } from '../../src/sds/secret-source.ts';
import { createSdsService } from '../../src/sds/service.ts';
import type { SdsService } from '../../src/sds/service.ts';
import type { Acknowledgement } from '../../src/store/store.ts';
import { parseSpiffeId } from '../../src/spiffe/id.ts';
import { rawSdsClient } from './raw-sds-client.ts';
import type { RawSdsClient, RawStream } from './raw-sds-client.ts';
import { recordingLog } from './recording-log.ts';
import type { RecordingLog } from './recording-log.ts';
import { memoryFeed, publishedAnchors } from './secret-material.ts';
import type { MemoryFeed } from './secret-material.ts';

export interface SdsWorld {
  readonly address: string;
  readonly client: RawSdsClient;
  readonly service: SdsService;
  readonly ledger: Ledger;
  readonly log: RecordingLog;
  readonly heap: DeadlineHeap;
  /** What the ledger made durable. */
  readonly acknowledged: Acknowledgement[];
  readonly bundle: MemoryFeed;
  /** The identity feed of a workload by its short name, made absent at first use. */
  identity(workload: string): MemoryFeed;
  /** A stream as that workload; its token is its name. */
  open(api: 'sotw' | 'delta', workload?: string): RawStream;
  /** From now on it may not go on; quietly: nobody is told. */
  refuse(workload: string, quietly?: boolean): void;
  readonly lookups: number;
  close(): Promise<void>;
}

export interface SdsWorldOptions {
  readonly limits?: Partial<SdsLimits>;
  readonly credentialMs?: number;
  readonly authenticate?: () => Promise<void>;
}

export function idOf(workload: string): string {
  return `spiffe://td.test/ns/test/sa/${workload}`;
}

/** The SDS service on a real gRPC server on loopback, over secrets in memory; tokens are workloads' names. */
export async function sdsWorld(options: SdsWorldOptions = {}): Promise<SdsWorld> {
  const clock = { now: () => Date.now() };
  const log = recordingLog();
  const heap = createDeadlineHeap(clock, (error) => {
    throw error;
  });
  const acknowledged: Acknowledgement[] = [];
  const ledger = createLedger({
    acknowledge: (batch) => {
      acknowledged.push(...batch);
      return Promise.resolve();
    },
    clock,
    log,
  });
  const bundle = memoryFeed('validation', 'bundle', publishedAnchors(1));
  const identities = new Map<string, MemoryFeed>();
  const refused = new Set<string>();
  const onRefusal = new Set<Parameters<Admission['onChange']>[0]>();
  const admission: Admission = {
    authenticate(call) {
      // At once, or after what the test waits for: both are allowed, and both are to be tried.
      return options.authenticate ? options.authenticate().then(() => proved(call)) : proved(call);
    },
    refusal: (caller) => (refused.has(caller.subject) ? new SignetError('IDENTITY_DENIED', 'this identity is denied') : undefined),
    onChange(listener) {
      onRefusal.add(listener);
      return () => onRefusal.delete(listener);
    },
  };
  function proved(call: Shown): Caller {
    const name = call.header('authorization')?.replace(/^Bearer /, '');
    if (name === undefined || !/^[a-z0-9]+$/.test(name)) throw new SignetError('UNAUTHENTICATED', 'no valid credential');
    return callerOf(name);
  }
  const callerOf = (name: string): Caller => ({
    issuer: 'test',
    subject: name,
    spiffeId: parseSpiffeId(idOf(name)),
    instance: `${name}-0`,
    authenticatedBy: 'token',
    credentialEnds: Date.now() + (options.credentialMs ?? 3_600_000),
    tokenSeenAt: Date.now(),
    provedBy: 'test',
  });
  const identity = (workload: string): MemoryFeed => {
    let feed = identities.get(workload);
    if (!feed) identities.set(workload, (feed = memoryFeed('identity', `identity ${workload}`, 'absent')));
    return feed;
  };
  let lookups = 0;
  const lookup = (caller: Caller, name: string): SecretFeed | undefined => {
    lookups++;
    if (name === 'ROOTCA' || name === 'spiffe://td.test') return bundle;
    if (name === 'default' || name === caller.spiffeId) return identity(caller.subject);
    return undefined;
  };
  const service = createSdsService({
    source: { lookup },
    admission,
    deliveries: ledger,
    clock,
    heap,
    random: Math.random,
    log,
    limits: { ...defaultSdsLimits, ...options.limits },
  });
  const server = new Server({ 'grpc.max_receive_message_length': 1 << 20 });
  service.register(server);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => {
      if (error) reject(error);
      else resolve(bound);
    });
  });
  const address = `127.0.0.1:${String(port)}`;
  const client = rawSdsClient(address);
  return {
    address,
    client,
    service,
    ledger,
    log,
    heap,
    acknowledged,
    bundle,
    identity,
    open: (api, workload = 'web') => client.stream(api, { authorization: `Bearer ${workload}` }),
    refuse(workload, quietly = false) {
      refused.add(workload);
      if (quietly) return;
      for (const listener of onRefusal) listener((caller) => caller.subject === workload);
    },
    get lookups() {
      return lookups;
    },
    async close() {
      client.close();
      server.forceShutdown();
      heap.close();
      await ledger.close();
    },
  };
}
