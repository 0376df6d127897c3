import type { Server, ServerUnaryCall } from '@grpc/grpc-js';
import { SignetError } from '../base/errors.ts';
import type { Authenticator } from '../identity/authenticator.ts';
import type { Caller } from '../identity/caller.ts';
import type { Binding, IssuedRecord } from '../store/store.ts';
import type { CheckedAnchors, CheckedChain } from '../x509/material.ts';
import { credentialsOf, unary } from './call.ts';
import type { CallContext, CallShell } from './call.ts';
import { protoService } from './proto-service.ts';

/** One CSR to be signed once. It never binds the key. */
export interface SignRequest {
  readonly mode: 'signed';
  readonly caller: Caller;
  /** PKCS#10: DER, or PEM text. */
  readonly csr: Buffer | string;
  readonly requestedTtlMs?: number | undefined;
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
}

interface SignCertificateRequest {
  readonly csr: Buffer;
  readonly ttlSeconds: number;
}

interface BindKeyRequest {
  readonly csr: Buffer;
  readonly keyDirectory: string;
}

const name = 'signet.v1.CertificateService';

/** signet.v1.CertificateService: SignCertificate and BindKey. */
export function certificateService(deps: CertificateServiceDeps): { register(server: Server): void } {
  async function identify(call: ServerUnaryCall<unknown, unknown>, { signal, note }: CallContext): Promise<Caller> {
    const caller = await deps.authenticate(credentialsOf(call, deps.audiences), signal);
    note({ spiffeId: caller.spiffeId, instance: caller.instance });
    return caller;
  }

  async function signCertificate(call: ServerUnaryCall<SignCertificateRequest, object>, context: CallContext): Promise<object> {
    const caller = await identify(call, context);
    const { csr, ttlSeconds } = call.request;
    if (ttlSeconds < 0) throw new SignetError('INVALID_ARGUMENT', 'ttl_seconds is negative');
    const request: SignRequest = { mode: 'signed', caller, csr, ...(ttlSeconds > 0 ? { requestedTtlMs: ttlSeconds * 1000 } : {}) };
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

  return {
    register(server) {
      server.addService(protoService('signet/v1/certificate_service.proto', name), {
        SignCertificate: unary(`${name}/SignCertificate`, deps, signCertificate),
        BindKey: unary(`${name}/BindKey`, deps, bindKey),
      });
    },
  };
}
