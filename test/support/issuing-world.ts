import type { Random } from '../../src/base/clock.ts';
import { createDeadlineHeap, reached } from '../../src/base/deadline-heap.ts';
import type { Authority } from '../../src/ca/authority.ts';
import { guarded } from '../../src/ca/resilience/guarded-authority.ts';
import type { GuardedAuthority } from '../../src/ca/resilience/guarded-authority.ts';
import type { DeadlineHeap } from '../../src/base/deadline-heap.ts';
import type { Caller } from '../../src/identity/caller.ts';
import { createBindings } from '../../src/issuance/bindings.ts';
import type { Bindings, BindingsLimits } from '../../src/issuance/bindings.ts';
import { createInstanceCertificates } from '../../src/issuance/instance-certificates.ts';
import type { InstanceCertificates } from '../../src/issuance/instance-certificates.ts';
import type { InstanceCertificatesLimits } from '../../src/issuance/instance-work.ts';
import { createIssuanceGate } from '../../src/issuance/issuance-gate.ts';
import type { IssuanceGate, IssuanceGateLimits, TurnedAway } from '../../src/issuance/issuance-gate.ts';
import { createIssuer } from '../../src/issuance/issuer.ts';
import type { Issuer, IssuerLimits } from '../../src/issuance/issuer.ts';
import type { Recorder } from '../../src/issuance/recorder.ts';
import type { KeyMode, Policy } from '../../src/policy/policy.ts';
import { createPolicy } from '../../src/policy/rules.ts';
import { createRenewer } from '../../src/rotation/renewer.ts';
import type { Renewer } from '../../src/rotation/renewer.ts';
import { parseSpiffeId, parseTrustDomain } from '../../src/spiffe/id.ts';
import type { Store } from '../../src/store/store.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite-store.ts';
import { openTrustBundle } from '../../src/trust/trust-bundle.ts';
import type { TrustBundle } from '../../src/trust/trust-bundle.ts';
import { fakeAuthority } from './fake-authority.ts';
import type { FakeAuthority } from './fake-authority.ts';
import { recordingLog } from './recording-log.ts';
import type { RecordingLog } from './recording-log.ts';
import { seededRandom } from './seeded-random.ts';
import { simulatedClock } from './simulated-clock.ts';
import type { SimulatedClock } from './simulated-clock.ts';
import { tempFolder } from './temp.ts';
import { tracked } from './passing-time.ts';

/** Issuing, bindings, trust and renewal, wired as the server wires them, on a simulated clock; store and X.509 are the real ones. */
export interface IssuingWorld extends AsyncDisposable {
  readonly clock: SimulatedClock;
  readonly random: Random;
  readonly store: Store;
  readonly authority: FakeAuthority;
  /** A second backend, which signs for the accounts `other-*`. */
  readonly otherAuthority: FakeAuthority;
  readonly authorities: ReadonlyMap<string, GuardedAuthority>;
  readonly trust: TrustBundle;
  readonly policy: Policy;
  readonly denied: Set<string>;
  readonly recorder: Recorder;
  readonly gate: IssuanceGate;
  readonly turnedAway: TurnedAway[];
  readonly issuer: Issuer;
  readonly bindings: Bindings;
  readonly certificates: InstanceCertificates;
  readonly heap: DeadlineHeap;
  readonly renewer: Renewer;
  readonly log: RecordingLog;
}

export interface WorldOptions {
  readonly tierMs?: number;
  readonly keyMode?: KeyMode;
  readonly keyMaxAgeMs?: number;
  readonly builtHere?: boolean;
  readonly intermediateLifeMs?: number;
  readonly newestIssuedAt?: number;
  readonly issuerLimits?: Partial<IssuerLimits>;
  readonly gateLimits?: Partial<IssuanceGateLimits>;
  readonly certificateLimits?: Partial<InstanceCertificatesLimits>;
  readonly bindingsLimits?: Partial<BindingsLimits>;
  readonly idleGraceMs?: number;
  /** Guards before both backends, as the server has them; `fallback`: each is the other's. */
  readonly guards?: { readonly fallback?: boolean; readonly timeoutMs?: number };
  /** Sees each record before the store does. */
  readonly onRecord?: (serial: string) => void | Promise<void>;
}

const trustDomain = parseTrustDomain('test.example');
const hourMs = 3_600_000;

export async function issuingWorld(options: WorldOptions = {}): Promise<IssuingWorld> {
  const clock = simulatedClock();
  const random = seededRandom(7);
  const log = recordingLog();
  const folder = await tempFolder();
  const store = tracked(await openSqliteStore({ file: folder.file('signet.db'), clock, log }));
  const authority = await fakeAuthority({
    clock,
    builtHere: options.builtHere ?? false,
    ...(options.intermediateLifeMs === undefined ? {} : { intermediateLifeMs: options.intermediateLifeMs }),
  });
  const otherAuthority = await fakeAuthority({ clock, name: 'other', builtHere: options.builtHere ?? false });
  const trust = await openTrustBundle({ state: store.trust, clock, log });
  await trust.setSource('ca:fake', await authority.anchors(AbortSignal.timeout(1000)));
  await trust.setSource('ca:other', await otherAuthority.anchors(AbortSignal.timeout(1000)));
  const denied = new Set<string>();
  const policy = createPolicy(
    {
      tiers: { standard: options.tierMs ?? 24 * hourMs },
      rules: [
        { match: '/ns/shop/sa/other-*', backend: 'other' },
        { match: '/ns/shop/sa/picky', certSigners: ['other'] },
      ],
      keyModes: [],
      defaults: {
        tier: 'standard',
        backend: 'fake',
        keyMode: options.keyMode ?? 'server',
        keyDirectories: ['/run/keys'],
        keyMaxAgeMs: options.keyMaxAgeMs ?? 30 * 24 * hourMs,
      },
    },
    { trustDomain, denied: (id) => denied.has(id) },
  );
  const recorder: Recorder = {
    async issued(record) {
      await options.onRecord?.(record.serial);
      await store.appendIssued([record]);
    },
    audit: (entry) => store.audit.append([entry]),
  };
  const heap = createDeadlineHeap(clock, (error) => {
    log.error({ err: error }, 'a deadline failed');
  });
  const guard = (inner: Authority, fallback: string | undefined): GuardedAuthority => {
    if (!options.guards) return inner;
    const pause = async (ms: number, signal: AbortSignal): Promise<void> => {
      await reached(heap, clock.now() + ms, signal);
      signal.throwIfAborted();
    };
    return guarded(inner, { clock, random, log, timeoutMs: options.guards.timeoutMs ?? 10_000, fallback: () => fallback, pause });
  };
  const authorities = new Map([
    ['fake', guard(authority, options.guards?.fallback ? 'other' : undefined)],
    ['other', guard(otherAuthority, options.guards?.fallback ? 'fake' : undefined)],
  ]);
  const turnedAway: TurnedAway[] = [];
  const gate = createIssuanceGate({
    random,
    limits: options.gateLimits ?? {},
    turnedAway: (reason) => {
      turnedAway.push(reason);
    },
  });
  const issuer = createIssuer({
    policy,
    authorities,
    anchors: () => trust.current(),
    recorder,
    gate,
    everIssued: ({ spiffeId, instance }) => store.issued.any(spiffeId, instance),
    newestIssuedAt: options.newestIssuedAt,
    clock,
    random,
    log,
    limits: options.issuerLimits ?? {},
  });
  const bindings = createBindings({
    store: store.bindings,
    issued: store.issued,
    policy,
    recorder,
    gate,
    namesFromCsr: (backend) => authorities.get(backend)?.capabilities.namesFromCsr === true,
    clock,
    log,
    limits: options.bindingsLimits ?? {},
  });
  const certificates = createInstanceCertificates({ issuer, bindings, policy, clock, log, limits: options.certificateLimits ?? {} });
  const renewer = createRenewer({
    heap,
    clock,
    random,
    certificates,
    log,
    ...(options.idleGraceMs === undefined ? {} : { idleGraceMs: options.idleGraceMs }),
  });
  return {
    clock,
    random,
    store,
    authority,
    otherAuthority,
    authorities,
    trust,
    policy,
    denied,
    recorder,
    gate,
    turnedAway,
    issuer,
    bindings,
    certificates,
    heap,
    renewer,
    log,
    async [Symbol.asyncDispose]() {
      renewer.close();
      certificates.close();
      heap.close();
      trust.close();
      await store.close();
      await folder[Symbol.asyncDispose]();
    },
  };
}

/** A caller as the token authenticator would make it. */
export function callerOf(
  world: { readonly clock: SimulatedClock },
  account: string,
  instance: string | undefined,
  changes: Partial<Caller> = {},
): Caller {
  const now = world.clock.now();
  return {
    issuer: 'k8s',
    subject: `system:serviceaccount:shop:${account}`,
    spiffeId: parseSpiffeId(`spiffe://test.example/ns/shop/sa/${account}`),
    instance,
    authenticatedBy: 'token',
    credentialEnds: now + hourMs,
    tokenSeenAt: now,
    provedBy: 'k8s key 1',
    ...changes,
  };
}
