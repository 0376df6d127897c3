import type { Server, ServerUnaryCall } from '@grpc/grpc-js';
import { grpcStatus, SignetError } from '../base/errors.ts';
import type { ErrorCode } from '../base/errors.ts';
import type { Authenticator } from '../identity/authenticator.ts';
import type { Caller } from '../identity/caller.ts';
import { pemEncode } from '../x509/pem.ts';
import { credentialsOf, unary } from './call.ts';
import type { CallContext, CallShell } from './call.ts';
import type { SignRequest, Sign } from './certificate-service.ts';
import { protoService } from './proto-service.ts';

export interface IstioCaDeps extends CallShell {
  readonly authenticate: Authenticator['authenticate'];
  /** With `istio-ca` among them. */
  readonly audiences: readonly string[];
  readonly sign: Sign;
  /** Whether a CA backend of this name is configured. */
  readonly hasAuthority: (name: string) => boolean;
  /** The backend that policy gives this caller. Throws PERMISSION_DENIED or IDENTITY_DENIED. */
  readonly authorityFor: (caller: Caller) => string;
}

/** google.protobuf.Struct as proto-loader decodes it. */
interface StructValue {
  readonly stringValue?: string;
}

interface IstioRequest {
  readonly csr: string;
  /** Seconds. */
  readonly validityDuration: number;
  readonly metadata: { readonly fields?: Readonly<Record<string, StructValue>> } | null;
}

interface IstioResponse {
  readonly certChain: readonly string[];
}

/**
 * Istio's numbers where they differ from ours: its agents retry INTERNAL, and expect it of a CA that fails; overload is
 * RESOURCE_EXHAUSTED. UNAUTHENTICATED they don't retry, so keys that can't be fetched stay UNAVAILABLE.
 */
const istioStatus: Readonly<Partial<Record<ErrorCode, number>>> = {
  AUTHORITY_UNAVAILABLE: 13,
  AUTHORITY_REFUSED: 13,
  OVERLOADED: 8,
  RATE_LIMITED: 8,
};

function statusOf(code: ErrorCode): number {
  return istioStatus[code] ?? grpcStatus(code);
}

/** IstioCertificateService/CreateCertificate, as istio-agent, ztunnel and istio-csr's clients speak it. */
export function istioCaService(deps: IstioCaDeps): { register(server: Server): void } {
  async function createCertificate(
    call: ServerUnaryCall<IstioRequest, IstioResponse>,
    { signal, note }: CallContext,
  ): Promise<IstioResponse> {
    const caller = await deps.authenticate(credentialsOf(call, deps.audiences), signal);
    note({ spiffeId: caller.spiffeId, instance: caller.instance });
    const { csr, validityDuration, metadata } = call.request;
    refuseImpersonation(metadata);
    checkSigner(textOf(metadata, 'CertSigner'), caller);
    const request: SignRequest = {
      mode: 'signed',
      caller,
      csr,
      // As Istio's CA: nothing asked for, or less than nothing, means its default.
      ...(validityDuration > 0 ? { requestedTtlMs: validityDuration * 1000 } : {}),
    };
    const { chain, anchors, record } = await deps.sign(request, signal);
    deps.log.info(
      { serial: record.serial, spiffeId: record.spiffeId, instance: record.instance, notAfter: record.notAfter, api: 'istio' },
      'certificate signed',
    );
    const [leaf, ...intermediates] = chain.certificates;
    return { certChain: [pemEncode('CERTIFICATE', leaf), ...intermediates.map(pemOfCa), anchors.pem] };
  }

  /** CertSigner names a backend. Policy says which one an identity has, so another is refused, never silently replaced. */
  function checkSigner(name: string | undefined, caller: Caller): void {
    if (name === undefined || name === '') return;
    if (!deps.hasAuthority(name)) throw new SignetError('INVALID_ARGUMENT', 'CertSigner names no CA backend of this server');
    if (deps.authorityFor(caller) !== name)
      throw new SignetError('PERMISSION_DENIED', 'policy gives this identity another CA backend than CertSigner names');
  }

  return {
    register(server) {
      server.addService(protoService('istio/v1/auth/ca.proto', 'istio.v1.auth.IstioCertificateService'), {
        CreateCertificate: unary('istio.v1.auth.IstioCertificateService/CreateCertificate', { ...deps, statusOf }, createCertificate),
      });
    },
  };
}

/** A node proxy asks in another's name. Opaque, and the code of a failed authentication, as Istio's CA answers it. */
function refuseImpersonation(metadata: IstioRequest['metadata']): void {
  const fields = metadata?.fields ?? {};
  if (!Object.hasOwn(fields, 'ImpersonatedIdentity')) return;
  throw new SignetError('UNAUTHENTICATED', 'authentication failed', {
    cause: new Error('ImpersonatedIdentity: no account may impersonate'),
  });
}

function textOf(metadata: IstioRequest['metadata'], key: string): string | undefined {
  const fields = metadata?.fields ?? {};
  if (!Object.hasOwn(fields, key)) return undefined;
  const text = fields[key]?.stringValue;
  if (text === undefined) throw new SignetError('INVALID_ARGUMENT', `metadata ${key} must be a string`);
  return text;
}

/** CA certificates are few and the same for every response; they go when the CA drops its own. */
const caPems = new WeakMap<Buffer, string>();

function pemOfCa(der: Buffer): string {
  const known = caPems.get(der);
  if (known !== undefined) return known;
  const pem = pemEncode('CERTIFICATE', der);
  caPems.set(der, pem);
  return pem;
}
