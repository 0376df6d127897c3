import type { Server, ServerUnaryCall } from '@grpc/grpc-js';
import { SignetError } from '../base/errors.ts';
import type { Authenticator } from '../identity/authenticator.ts';
import type { Caller } from '../identity/caller.ts';
import type { Binding, IssuedRecord } from '../store/store.ts';
import { longestCsr } from '../x509/csr.ts';
import type { CheckedAnchors, CheckedChain } from '../x509/material.ts';
import { credentialsOf, unary } from './call.ts';
import type { CallContext, CallShell } from './call.ts';
import { protoService } from './proto-service.ts';
import type { FieldBounds } from './proto-service.ts';

/** One CSR to be signed once. It never binds the key. */
export interface SignRequest {
  readonly mode: 'signed';
  readonly caller: Caller;
  /** PKCS#10: DER, or PEM text. */
  readonly csr: Buffer | string;
  readonly requestedTtlMs?: number | undefined;
  /** A CA backend picked by name, where policy lets it be. */
  readonly backend?: string | undefined;
}

export interface Signed {
  readonly chain: CheckedChain;
  readonly anchors: CheckedAnchors;
  readonly generation: number;
  readonly record: IssuedRecord;
}

/** On record, durably, when it resolves. */
export type Sign = (request: SignRequest, signal: AbortSignal) => Promise<Signed>;

export interface CertificateServiceDeps extends CallShell {
  readonly authenticate: Authenticator['authenticate'];
  readonly audiences: readonly string[];
  readonly sign: Sign;
  /** Durable when it resolves. */
  readonly bind: (caller: Caller, csr: Buffer, keyDirectory: string, signal: AbortSignal) => Promise<Binding>;
  readonly jwt: JwtSvidApi;
  /** The trust domain's anchors as they are now. */
  readonly bundle: () => { readonly generation: number; readonly anchors: CheckedAnchors };
  readonly signIntermediate: SignIntermediate;
}

/** A CA certificate for another Signet: on record, durably, when it resolves. */
export type SignIntermediate = (
  request: { readonly caller: Caller; readonly csr: Buffer; readonly requestedTtlMs?: number | undefined },
  signal: AbortSignal,
) => Promise<{ readonly chain: readonly Buffer[]; readonly record: IssuedRecord; readonly generation: number }>;

export interface JwtSvidApi {
  /** Times in seconds since the epoch. */
  issue(
    request: { readonly caller: Caller; readonly audience: readonly string[]; readonly spiffeId: string },
    signal: AbortSignal,
  ): Promise<{ readonly token: string; readonly spiffeId: string; readonly issuedAt: number; readonly expiresAt: number }>;
  /** What this caller verifies JWT-SVIDs by. */
  bundles(caller: Caller, signal: AbortSignal): Promise<JwtBundles>;
}

export interface JwtBundles {
  readonly bundles: readonly { readonly trustDomain: string; readonly jwks: string; readonly sequence: number }[];
  readonly refreshHintMs: number;
}

interface SignCertificateRequest {
  readonly csr: Buffer;
  readonly ttlSeconds: number;
}

/** As SignCertificateRequest. */
type SignIntermediateRequest = SignCertificateRequest;

interface BindKeyRequest {
  readonly csr: Buffer;
  readonly keyDirectory: string;
}

interface SignJwtSvidRequest {
  readonly audience: readonly string[];
  readonly spiffeId: string;
}

const name = 'signet.v1.CertificateService';
/** Others learn of a new root within it, and it is distributed before anything hangs on it. */
const bundleHintSeconds = 60;
/** What waits for the CA holds its request in memory. */
const csrBounds: FieldBounds = new Map([[1, { name: 'csr', bytes: longestCsr }]]);

/** signet.v1.CertificateService: SignCertificate, BindKey, SignJwtSvid, GetJwtBundle, GetX509Bundle and SignIntermediate. */
export function certificateService(deps: CertificateServiceDeps): { register(server: Server): void } {
  async function identify(call: ServerUnaryCall<unknown, unknown>, { signal, note }: CallContext): Promise<Caller> {
    const caller = await deps.authenticate(credentialsOf(call, deps.audiences), signal);
    note({ spiffeId: caller.spiffeId, instance: caller.instance });
    return caller;
  }

  async function signCertificate(call: ServerUnaryCall<SignCertificateRequest, object>, context: CallContext): Promise<object> {
    const caller = await identify(call, context);
    const { csr, ttlSeconds } = call.request;
    const request: SignRequest = { mode: 'signed', caller, csr, requestedTtlMs: requestedTtl(ttlSeconds) };
    const { chain, anchors, generation, record } = await deps.sign(request, context.signal);
    deps.log.info(
      { serial: record.serial, spiffeId: record.spiffeId, instance: record.instance, notAfter: record.notAfter, api: 'signet' },
      'certificate signed',
    );
    return {
      chain: chain.certificates,
      anchors: anchors.certificates,
      serial: chain.serial,
      notBefore: chain.notBefore / 1000,
      notAfter: chain.notAfter / 1000,
      spiffeId: record.spiffeId,
      trustGeneration: generation,
    };
  }

  async function bindKey(call: ServerUnaryCall<BindKeyRequest, object>, context: CallContext): Promise<object> {
    const caller = await identify(call, context);
    const { csr, keyDirectory } = call.request;
    const binding = await deps.bind(caller, csr, keyDirectory, context.signal);
    return {
      spiffeId: binding.spiffeId,
      instance: binding.instance,
      keyFile: binding.keyFile,
      keyEnds: Math.floor(binding.keyEnds / 1000),
    };
  }

  async function signJwtSvid(call: ServerUnaryCall<SignJwtSvidRequest, object>, context: CallContext): Promise<object> {
    const caller = await identify(call, context);
    const { audience, spiffeId } = call.request;
    const svid = await deps.jwt.issue({ caller, audience, spiffeId }, context.signal);
    return { svid: svid.token, spiffeId: svid.spiffeId, issuedAt: svid.issuedAt, expiresAt: svid.expiresAt };
  }

  async function getJwtBundle(call: ServerUnaryCall<object, object>, context: CallContext): Promise<object> {
    const caller = await identify(call, context);
    const { bundles, refreshHintMs } = await deps.jwt.bundles(caller, context.signal);
    return {
      bundles: bundles.map(({ trustDomain, jwks, sequence }) => ({ trustDomain, jwks: Buffer.from(jwks), sequence })),
      // A hint of less than a second is a test's; zero would mean none.
      refreshHintSeconds: Math.max(1, Math.floor(refreshHintMs / 1000)),
    };
  }

  async function getX509Bundle(call: ServerUnaryCall<object, object>, context: CallContext): Promise<object> {
    await identify(call, context);
    const { generation, anchors } = deps.bundle();
    return { anchors: anchors.certificates, trustGeneration: generation, refreshHintSeconds: bundleHintSeconds };
  }

  async function signIntermediate(call: ServerUnaryCall<SignIntermediateRequest, object>, context: CallContext): Promise<object> {
    const caller = await identify(call, context);
    const { csr, ttlSeconds } = call.request;
    const signed = await deps.signIntermediate({ caller, csr, requestedTtlMs: requestedTtl(ttlSeconds) }, context.signal);
    const { serial, notBefore, notAfter } = signed.record;
    return { chain: signed.chain, serial, notBefore: notBefore / 1000, notAfter: notAfter / 1000, trustGeneration: signed.generation };
  }

  const bounds = { SignCertificate: csrBounds, BindKey: csrBounds, SignIntermediate: csrBounds };
  return {
    register(server) {
      server.addService(protoService('signet/v1/certificate_service.proto', name, bounds), {
        SignCertificate: unary(`${name}/SignCertificate`, deps, signCertificate),
        BindKey: unary(`${name}/BindKey`, deps, bindKey),
        SignJwtSvid: unary(`${name}/SignJwtSvid`, deps, signJwtSvid),
        GetJwtBundle: unary(`${name}/GetJwtBundle`, deps, getJwtBundle),
        GetX509Bundle: unary(`${name}/GetX509Bundle`, deps, getX509Bundle),
        SignIntermediate: unary(`${name}/SignIntermediate`, deps, signIntermediate),
      });
    },
  };
}

/** Undefined for as long as policy gives. */
function requestedTtl(ttlSeconds: number): number | undefined {
  if (ttlSeconds < 0) throw new SignetError('INVALID_ARGUMENT', 'ttl_seconds is negative');
  return ttlSeconds > 0 ? ttlSeconds * 1000 : undefined;
}
