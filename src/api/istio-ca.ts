import type { Server, ServerUnaryCall } from '@grpc/grpc-js';
import { grpcStatus, SignetError } from '../base/errors.ts';
import type { ErrorCode } from '../base/errors.ts';
import type { Authenticator } from '../identity/authenticator.ts';
import { longestCsr } from '../x509/csr.ts';
import { credentialsOf, unary } from './call.ts';
import type { CallContext, CallShell } from './call.ts';
import type { SignRequest, Sign } from './certificate-service.ts';
import type { Impersonation } from './impersonation.ts';
import { protoService } from './proto-service.ts';
import type { FieldBounds } from './proto-service.ts';

export interface IstioCaDeps extends CallShell {
  readonly authenticate: Authenticator['authenticate'];
  /** With `istio-ca` among them. */
  readonly audiences: readonly string[];
  readonly sign: Sign;
  /** Whether a CA backend of this name is configured. */
  readonly hasAuthority: (name: string) => boolean;
  readonly impersonation: Impersonation;
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
  AUTHORITY_THROTTLED: 13,
  AUTHORITY_REFUSED: 13,
  OVERLOADED: 8,
  RATE_LIMITED: 8,
  // It would be as large the next time.
  TOO_LARGE: 3,
};

/** A Struct nests, so that its size is judged before it is decoded. Istio's clients send two short strings. */
const bounds: FieldBounds = new Map([
  [1, { name: 'csr', bytes: longestCsr }],
  [4, { name: 'metadata', bytes: 4096 }],
]);

/** What a cluster may be called. */
const clusterCharacters = /^[A-Za-z0-9._-]{1,253}$/;

function statusOf(code: ErrorCode): number {
  return istioStatus[code] ?? grpcStatus(code);
}

/** IstioCertificateService/CreateCertificate, as istio-agent, ztunnel and istio-csr's clients speak it. */
export function istioCaService(deps: IstioCaDeps): { register(server: Server): void } {
  async function createCertificate(
    call: ServerUnaryCall<IstioRequest, IstioResponse>,
    { signal, note }: CallContext,
  ): Promise<IstioResponse> {
    const proved = await deps.authenticate(credentialsOf(call, deps.audiences), signal);
    note({ spiffeId: proved.spiffeId, instance: proved.instance, cluster: clusterOf(call) });
    const { csr, validityDuration, metadata } = call.request;
    const backend = textOf(metadata, 'CertSigner');
    if (backend !== undefined && !deps.hasAuthority(backend))
      throw new SignetError('INVALID_ARGUMENT', 'CertSigner names no CA backend of this server');
    const impersonated = textOf(metadata, 'ImpersonatedIdentity');
    // What is asked for is the client's own word, and may be anything.
    if (impersonated !== undefined) note({ impersonated: impersonated.slice(0, 200) });
    const caller = impersonated === undefined ? proved : await deps.impersonation.as(proved, impersonated, signal);
    const request: SignRequest = {
      mode: 'signed',
      caller,
      csr,
      backend,
      // As Istio's CA: nothing asked for, or less than nothing, means its default.
      ...(validityDuration > 0 ? { requestedTtlMs: validityDuration * 1000 } : {}),
    };
    const { chain, anchors, record } = await deps.sign(request, signal);
    if (caller !== proved) await deps.impersonation.audit(proved, caller.spiffeId, record.serial);
    deps.log.info(
      {
        serial: record.serial,
        spiffeId: record.spiffeId,
        instance: record.instance,
        notAfter: record.notAfter,
        api: 'istio',
        ...(caller === proved ? {} : { by: proved.spiffeId }),
      },
      'certificate signed',
    );
    return { certChain: [...chain.pems, anchors.pem] };
  }

  return {
    register(server) {
      server.addService(protoService('istio/v1/auth/ca.proto', 'istio.v1.auth.IstioCertificateService', { CreateCertificate: bounds }), {
        CreateCertificate: unary('istio.v1.auth.IstioCertificateService/CreateCertificate', { ...deps, statusOf }, createCertificate),
      });
    },
  };
}

/** For the log. Whether it is one of ours, and the token one of its, has been judged with the token. */
function clusterOf(call: ServerUnaryCall<IstioRequest, IstioResponse>): string | undefined {
  const [name] = call.metadata.get('clusterid');
  return typeof name === 'string' && clusterCharacters.test(name) ? name : undefined;
}

/** Undefined where it is empty too: istio-agent sends CertSigner always. Throws INVALID_ARGUMENT if it is no string. */
function textOf(metadata: IstioRequest['metadata'], key: string): string | undefined {
  const fields = metadata?.fields ?? {};
  if (!Object.hasOwn(fields, key)) return undefined;
  const text = fields[key]?.stringValue;
  if (text === undefined) throw new SignetError('INVALID_ARGUMENT', `metadata ${key} must be a string`);
  return text === '' ? undefined : text;
}
