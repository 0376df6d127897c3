import type { Server, ServerUnaryCall, ServerWritableStream } from '@grpc/grpc-js';
import { SignetError } from '../base/errors.ts';
import type { Bearer } from '../identity/caller.ts';
import type { Ledger } from '../ledger/ledger.ts';
import { parseSpiffeId, trustDomainOf } from '../spiffe/id.ts';
import type { SpiffeId } from '../spiffe/id.ts';
import type { Binding, Denial, IssuedRecord, Page, Store } from '../store/store.ts';
import { unary } from './call.ts';
import type { CallContext, CallShell } from './call.ts';
import { protoService } from './proto-service.ts';
import { serverStatus } from './server-status.ts';
import type { StatusParts } from './server-status.ts';
import { createStatusWatches } from './status-watch.ts';

export interface AdminDeps extends CallShell, Omit<StatusParts, 'issued' | 'ledger'> {
  readonly issued: Pick<Store['issued'], 'get' | 'list' | 'countUnexpired'>;
  readonly ledger: Pick<Ledger, 'streams' | 'streamCount' | 'onChange'>;
  readonly onTrustChange: (listener: () => void) => () => void;
  readonly bindings: {
    list(limit: number, after?: string): Promise<Page<Binding>>;
    unbind(bearer: Bearer, actor: string, signal: AbortSignal): Promise<boolean>;
  };
  readonly renew: (
    filter: { readonly spiffeId: SpiffeId; readonly instance?: string | undefined },
    signal: AbortSignal,
  ) => Promise<readonly { readonly record: IssuedRecord }[]>;
  readonly denials: {
    list(): Promise<readonly Denial[]>;
    /** Durable when it resolves, with the number of streams that it ended. */
    deny(id: SpiffeId, reason: string): Promise<number>;
    lift(id: SpiffeId): Promise<boolean>;
  };
}

export interface AdminService {
  register(server: Server): void;
  /** Ends all watches. */
  close(): void;
}

const name = 'signet.v1.AdminService';
/** The folder's owner is all that the socket knows of a client. */
const actor = 'operator';
const usualPage = 100;
const largestPage = 1000;
const longestText = 2048;

interface PageRequest {
  readonly pageSize: number;
  readonly pageToken: string;
}

interface BearerRequest {
  readonly spiffeId: string;
  readonly instance: string;
}

/** signet.v1.AdminService, for the operator's CLI. Whoever reaches it may do everything: see admin-listener.ts. */
export function adminService(deps: AdminDeps): AdminService {
  const status = (): Promise<object> => serverStatus(deps);
  const watches = createStatusWatches({
    status,
    log: deps.log,
    onChange(listener) {
      const stops = [deps.ledger.onChange(listener), deps.onTrustChange(listener)];
      return () => {
        for (const stop of stops) stop();
      };
    },
  });

  async function listCertificates(request: PageRequest & BearerRequest & { readonly unexpired: boolean }): Promise<object> {
    const { items, next } = await deps.issued.list({
      ...page(request),
      ...(request.spiffeId === '' ? {} : { spiffeId: parseSpiffeId(request.spiffeId) }),
      ...(request.instance === '' ? {} : { instance: capped(request.instance, 'instance') }),
      ...(request.unexpired ? { unexpiredAt: deps.clock.now() } : {}),
    });
    return { certificates: items, nextPageToken: next ?? '' };
  }

  async function getCertificate({ serial }: { readonly serial: string }): Promise<object> {
    // As openssl prints it, with colons or in capitals, it is the same serial.
    const record = await deps.issued.get(capped(serial, 'serial').replaceAll(':', '').toLowerCase());
    if (!record) throw new SignetError('NOT_FOUND', 'no certificate of that serial is on record');
    return record;
  }

  async function renewCertificate(request: BearerRequest, { signal }: CallContext): Promise<object> {
    const instance = request.instance === '' ? undefined : capped(request.instance, 'instance');
    const renewed = await deps.renew({ spiffeId: parseSpiffeId(request.spiffeId), instance }, signal);
    return { certificates: renewed.map(({ record }) => record) };
  }

  async function denyIdentity(request: { readonly spiffeId: string; readonly reason: string }): Promise<object> {
    const id = parseSpiffeId(request.spiffeId);
    // The stop button must not seem to work where it stops nobody.
    if (trustDomainOf(id) !== deps.trustDomain) {
      throw new SignetError('INVALID_ARGUMENT', `identities of this server are of the trust domain ${deps.trustDomain}`);
    }
    return { streamsEnded: await deps.denials.deny(id, capped(request.reason, 'reason')) };
  }

  async function unbindKey(request: BearerRequest, { signal }: CallContext): Promise<object> {
    const bearer: Bearer = { spiffeId: parseSpiffeId(request.spiffeId), instance: capped(request.instance, 'instance') };
    if (bearer.instance === '') throw new SignetError('INVALID_ARGUMENT', 'instance is required: a key is bound to one instance');
    return { unbound: await deps.bindings.unbind(bearer, actor, signal) };
  }

  async function listBindings(request: PageRequest): Promise<object> {
    const { limit, after } = page(request);
    const { items, next } = await deps.bindings.list(limit, after);
    return { bindings: items, nextPageToken: next ?? '' };
  }

  function method<Request>(methodName: string, handle: (request: Request, context: CallContext) => Promise<object>) {
    return unary(`${name}/${methodName}`, deps, (call: ServerUnaryCall<Request, object>, context) => handle(call.request, context));
  }

  return {
    register(server) {
      server.addService(protoService('signet/v1/admin_service.proto', name), {
        ListCertificates: method('ListCertificates', listCertificates),
        GetCertificate: method('GetCertificate', getCertificate),
        RenewCertificate: method('RenewCertificate', renewCertificate),
        GetStatus: method('GetStatus', status),
        WatchStatus: (call: ServerWritableStream<unknown, object>) => {
          watches.serve(call);
        },
        DenyIdentity: method('DenyIdentity', denyIdentity),
        LiftDenial: method('LiftDenial', async ({ spiffeId }: { readonly spiffeId: string }) => ({
          lifted: await deps.denials.lift(parseSpiffeId(spiffeId)),
        })),
        ListDenials: method('ListDenials', async () => ({ denials: await deps.denials.list() })),
        ListBindings: method('ListBindings', listBindings),
        UnbindKey: method('UnbindKey', unbindKey),
      });
    },
    close: watches.close,
  };
}

function page(request: PageRequest): { readonly limit: number; readonly after?: string } {
  if (request.pageSize < 0) throw new SignetError('INVALID_ARGUMENT', 'page_size is negative');
  const limit = request.pageSize === 0 ? usualPage : Math.min(request.pageSize, largestPage);
  return request.pageToken === '' ? { limit } : { limit, after: capped(request.pageToken, 'page_token') };
}

function capped(text: string, field: string): string {
  if (text.length > longestText) throw new SignetError('INVALID_ARGUMENT', `${field} is longer than ${String(longestText)} characters`);
  return text;
}
