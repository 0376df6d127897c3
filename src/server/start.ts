import { adminService } from '../api/admin-service.ts';
import { createAuthorityHealth } from '../api/authority-health.ts';
import type { CallShell } from '../api/call.ts';
import { certificateService } from '../api/certificate-service.ts';
import { credentialsFrom } from '../api/credentials.ts';
import { createHealth } from '../api/health.ts';
import { istioCaService } from '../api/istio-ca.ts';
import { systemClock } from '../base/clock.ts';
import { deadlineSignal } from '../base/deadline.ts';
import { createDeadlineHeap } from '../base/deadline-heap.ts';
import type { Log } from '../base/log.ts';
import { packageVersion } from '../base/package-version.ts';
import { openControlPlaneCa } from '../ca/control-plane.ts';
import { withFallbacks } from '../issuance/backend-route.ts';
import { createBindings } from '../issuance/bindings.ts';
import { createIntermediates } from '../issuance/intermediates.ts';
import { createInstanceCertificates } from '../issuance/instance-certificates.ts';
import { createIssuanceGate } from '../issuance/issuance-gate.ts';
import { createIssuer } from '../issuance/issuer.ts';
import { createLedger } from '../ledger/ledger.ts';
import { createLogger } from '../observe/logger.ts';
import { createMetrics } from '../observe/metrics.ts';
import { createRenewer } from '../rotation/renewer.ts';
import { defaultSdsLimits } from '../sds/limits.ts';
import { createSdsService } from '../sds/service.ts';
import { replaceFile } from '../store/atomic-file.ts';
import { openAdminListener } from './admin-listener.ts';
import { createAdmission } from './admission.ts';
import { openAuthorities } from './authorities.ts';
import { publishIntoCluster } from './bundle-publication.ts';
import { openClusters } from './clusters.ts';
import { createClosing } from '../base/closing.ts';
import type { Closing } from '../base/closing.ts';
import { splitAddress } from '../config/address.ts';
import type { Config } from './config/schema.ts';
import { gateLimits, trustDomainOf } from './config/settings.ts';
import { openDenials, stopButton } from './denials.ts';
import { openGrpcDoor } from './grpc-door.ts';
import { openHttpListener } from '../api/http-listener.ts';
import { openIdentity } from './identity.ts';
import { openJwt } from './jwt.ts';
import { openKnownIntermediates } from './known-intermediates.ts';
import { createNodeProxies } from './node-proxies.ts';
import { createObservation } from './observation.ts';
import { createPolicyInForce } from './policy-in-force.ts';
import { createReadiness, reportHealth } from './readiness.ts';
import { createRecorder } from './recorder.ts';
import { createReload, reloading } from './reload.ts';
import { createSecretSource } from './secret-source.ts';
import { closedOnce } from './running-server.ts';
import type { RunningServer, StartOptions } from './running-server.ts';
import { openState } from './state.ts';
import { openTrust } from './trust.ts';
import { startUpkeep } from './upkeep.ts';

/** How long calls and streams get to end by themselves. */
const drainMs = 5000;

/**
 * Wires the control plane and listens. What was opened before a step that fails is closed again. Throws a SignetError
 * that says what to do: a port that is taken, a folder that isn't ours, a wrong passphrase.
 */
export async function startServer(config: Config, options: StartOptions): Promise<RunningServer> {
  const log = createLogger({ level: config.log.level });
  const closing = createClosing(log);
  try {
    const running = await compose(config, options, log, closing);
    options.signal?.throwIfAborted();
    return running;
  } catch (error) {
    await closing.run();
    throw error;
  }
}

async function compose(config: Config, options: StartOptions, log: Log, closing: Closing): Promise<RunningServer> {
  const { dev, beforeAuthority } = options;
  const clock = systemClock;
  const random = Math.random;
  const startedAt = clock.now();
  const version = packageVersion();
  const metrics = createMetrics(version);
  const observation = createObservation(metrics, clock);
  const trustDomain = trustDomainOf(config);
  const heap = createDeadlineHeap(clock, (error) => {
    log.error({ err: error }, 'a deadline failed');
  });
  closing.add('deadlines', heap.close);

  // What must survive.
  const state = await openState({ config, trustDomain, dev, clock, log });
  closing.add('state', state.close);
  const { store, folder, seal } = state;

  // What each Envoy was sent and took.
  const ledger = createLedger({ acknowledge: store.acknowledge, clock, log });
  closing.add('ledger', ledger.close);

  // Who signs, and what is trusted.
  const authorities = await openAuthorities({ config, trustDomain, state: store.trust, seal, clock, log, before: beforeAuthority });
  closing.add('authorities', authorities.close);
  const trusted = await openTrust({ config, authorities, store, ledger, bundleFile: folder.bundle, heap, closing, clock, log });
  const trust = trusted.bundle;
  const publication = await publishIntoCluster({ config, trust, metrics, clock, random, log });
  closing.add('bundle publication', publication.close);
  const controlPlane = await openControlPlaneCa({ trustDomain, state: store.trust, seal, clock });
  replaceFile(folder.serverCa, controlPlane.rootPem, 0o644);

  // Who may ask, and for what.
  const denials = await openDenials(store, clock);
  const policy = createPolicyInForce(config, { trustDomain, denied: denials.has });
  const clusters = await openClusters({ config, log, random });
  closing.add('clusters', clusters.close);
  const identity = await openIdentity({ config, trustDomain, folder, dev, store, trust, clusters, clock, log });
  closing.add('identity', identity.close);

  // From request to certificate, and again at half-life.
  const recorder = createRecorder(store);
  const newestIssuedAt = await store.issued.newest();
  const intermediates = await openKnownIntermediates(store.trust, log);
  const gate = createIssuanceGate({
    random,
    limits: gateLimits(config, (name) => authorities.current.get(name)?.capabilities.builtHere ?? false),
    turnedAway: metrics.turnedAway,
  });
  const signing = intermediates.learning(
    createIssuer({
      policy,
      authorities: authorities.current,
      anchors: trust.current,
      activeAnchors: trusted.active.current,
      refreshAnchors: trusted.anchors.refresh,
      recorder,
      gate,
      everIssued: ({ spiffeId, instance }) => store.issued.any(spiffeId, instance),
      newestIssuedAt,
      clock,
      random,
      log,
      limits: { signTimeoutMs: config.ca.signing.timeout },
    }),
  );
  const issuer = observation.issuing(signing);
  const jwt = await openJwt({
    config,
    trustDomain,
    state: store.trust,
    seal,
    policy,
    recorder,
    newestIssuedAt,
    onIssued: observation.jwtSvidIssued,
    clock,
    log,
  });
  closing.add('JWT signing keys', jwt.close);
  const namesFromCsr = (backend: string): boolean =>
    withFallbacks(authorities.current, backend).some((name) => authorities.current.get(name)?.capabilities.namesFromCsr === true);
  const bindings = createBindings({ store: store.bindings, issued: store.issued, policy, recorder, gate, namesFromCsr, clock, log });
  const certificates = createInstanceCertificates({ issuer, bindings, policy, clock, log });
  closing.add('certificates', certificates.close);
  const renewer = createRenewer({ heap, clock, random, certificates, log });
  closing.add('renewer', renewer.close);
  denials.onChange((id) => {
    if (denials.has(id)) certificates.refuse(id);
    else certificates.readmit(id);
  });

  ledger.onOutcome(({ stream, secret }) => {
    const { spiffeId, instance } = stream.caller;
    if (secret.type !== 'identity' || instance === undefined) return;
    if (secret.state === 'acknowledged') certificates.acknowledged({ spiffeId, instance });
    else if (secret.nack) certificates.nacked({ spiffeId, instance }, secret.nack.class, secret.version);
  });

  // The doors.
  const authenticator = observation.authenticating(intermediates.completing(identity.authenticator));
  const sds = createSdsService({
    source: createSecretSource({ trustDomain, identityFeed: certificates.feed, bundle: trust }),
    admission: createAdmission({
      authenticator,
      policy,
      denials,
      onTrustChange: trust.subscribe,
      credentials: (call) => credentialsFrom(call, identity.audiences.signet),
    }),
    deliveries: observation.delivering(ledger),
    clock,
    heap,
    random,
    log,
    limits: { ...defaultSdsLimits, maxStreamAgeMs: config.limits.maxStreamAge, maxStreamsPerIdentity: config.limits.streamsPerIdentity },
  });
  const shell: CallShell = { log, timeoutMs: config.limits.requestTimeout, observe: observation.call };
  const reload = createReload({ config, authorities, trust: trusted, policy, log });
  const askAuthorities = createAuthorityHealth(trusted.asked, clock);
  const readiness = createReadiness(issuer, askAuthorities, () => withFallbacks(authorities.current, reload.config().ca.default));
  observation.watch({
    ledger,
    certificates,
    authorities: () => authorities.current.values(),
    waiting: () => gate.waiting,
    trustGeneration: () => trust.current().generation,
    ready: () => readiness().ready,
    jwtKeys: jwt.keys,
  });
  const health = createHealth(shell, [
    'envoy.service.secret.v3.SecretDiscoveryService',
    'istio.v1.auth.IstioCertificateService',
    'signet.v1.CertificateService',
  ]);
  const istio = istioCaService({
    ...shell,
    authenticate: authenticator.authenticate,
    audiences: identity.audiences.istio,
    sign: issuer.issue,
    hasAuthority: (name) => authorities.current.has(name),
    impersonation: await createNodeProxies({ config, trustDomain, identity, clusters, policy, recorder, clock, log }),
  });
  const workloads = certificateService({
    ...shell,
    authenticate: authenticator.authenticate,
    audiences: identity.audiences.signet,
    sign: issuer.issue,
    bind: bindings.bind,
    jwt: jwt.api,
    bundle: trust.current,
    signIntermediate: createIntermediates({
      trustDomain,
      policy,
      authorities: authorities.current,
      anchors: trust.current,
      recorder,
      gate,
      readiness: issuer.readiness,
      clock,
      log,
      signTimeoutMs: config.ca.signing.timeout,
    }).sign,
  });
  const admin = adminService({
    ...shell,
    audience: 'operator',
    version,
    trustDomain,
    mode: dev ? 'dev' : 'production',
    startedAt,
    clock,
    readiness,
    trust: trust.current,
    onTrustChange: trust.subscribe,
    ledger,
    held: (bearer) => certificates.get(bearer),
    dueAt: renewer.dueAt,
    authorities: askAuthorities,
    issued: store.issued,
    jwtKeys: jwt.keys,
    bindings: { list: bindings.list, unbind: bindings.unbind },
    renew: certificates.renew,
    denials: stopButton(denials, store, sds),
  });

  const http = await openHttpListener({ ...splitAddress(config.listen.http), log, metrics: metrics.page, readiness, pages: jwt.pages });
  closing.add('http', http.close);
  const adminListener = await openAdminListener({ path: config.listen.admin, register: admin.register });
  closing.add('admin', async () => {
    admin.close();
    await adminListener.close(drainMs);
  });
  const grpc = await openGrpcDoor({
    config,
    services: [sds, istio, workloads, health],
    controlPlane,
    trust,
    clientCas: identity.clientCas,
    heap,
    clock,
    log,
  });
  closing.add('grpc', async () => {
    stopHealth();
    health.close();
    // "Go away" first: an Envoy whose stream has ended comes back by a new connection, to whoever listens then.
    await Promise.all([grpc.close(drainMs), sds.drain(deadlineSignal(drainMs))]);
  });
  const upkeep = startUpkeep({ heap, clock, log, store, bindings, retainExpiredMs: config.store.retainExpired });
  closing.add('upkeep', upkeep.close);
  const stopHealth = reportHealth(health, readiness);

  log.info({ grpc: grpc.address, http: http.address, admin: adminListener.path, trustDomain, dev, ms: clock.now() - startedAt }, 'serving');
  return {
    grpcAddress: grpc.address,
    httpAddress: http.address,
    adminPath: adminListener.path,
    reload: (load) => reloading(load, reload, metrics, clock, log),
    ...closedOnce(closing),
  };
}
