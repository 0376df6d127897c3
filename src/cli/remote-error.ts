import type { ServiceError } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import type { AnyDefinition, MessageTypeDefinition } from '@grpc/proto-loader';
import { loadSync } from '@grpc/proto-loader';
import { protoRoot } from '../base/proto-files.ts';
import type { ErrorCode } from '../base/errors.ts';
import { SignetError, grpcStatus } from '../base/errors.ts';
import { harmless } from './terminal.ts';

const longestMessage = 1000;

/** What a server answered, or that none did, as one of our errors. Its words are shown without what a terminal would obey. */
export function remoteError(error: unknown, address: string): SignetError {
  if (!isServiceError(error)) return SignetError.from(error);
  const reason = stableCode(error.metadata.get('grpc-status-details-bin')[0]);
  const said = harmless(error.details.slice(0, longestMessage));
  if (reason !== undefined) return new SignetError(reason, said, { cause: error });
  const where = address.replace(/^unix:/, '');
  if (error.code === status.UNAVAILABLE) return unreachable(where, whyNot(said), error);
  if (error.code === status.DEADLINE_EXCEEDED)
    return new SignetError('DEADLINE_EXCEEDED', `the server at ${where} did not answer in time`, { cause: error });
  if (error.code === status.CANCELLED) return new SignetError('CANCELLED', 'the call was cancelled', { cause: error });
  // No cause: the message is all there is to show.
  return new SignetError('INTERNAL', said === '' ? `the server at ${where} failed with gRPC status ${error.code}` : said);
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' && 'details' in error && 'metadata' in error;
}

function unreachable(where: string, why: string, cause: Error): SignetError {
  const text = /certificate|altnames/i.test(why)
    ? `what answers at ${where} is not the server that was meant (${why}): check the CA file, the host and the server's listen.names`
    : `no server answers at ${where} (${why})`;
  return new SignetError('AUTHORITY_UNAVAILABLE', text, { cause });
}

/** gRPC's text for a connection that failed is long; the system's or TLS's own reason is at its end. */
function whyNot(details: string): string {
  return /Last error: (?:Error: )?(.*?)(?:\. Resolution note:.*)?$/.exec(details)?.[1] ?? details;
}

interface RichStatus {
  readonly details: readonly { readonly type_url: string; readonly value: Buffer }[];
}

/** The reason in google.rpc.ErrorInfo, if it is a code of ours. What doesn't parse is as good as nothing. */
function stableCode(trailer: string | Buffer | undefined): ErrorCode | undefined {
  if (!Buffer.isBuffer(trailer) || trailer.length > 8192) return undefined;
  try {
    const options = { keepCase: true, defaults: true, includeDirs: [protoRoot] };
    const messages = loadSync(['google/rpc/status.proto', 'google/rpc/error_details.proto'], options);
    const [rich, info] = [messages['google.rpc.Status'], messages['google.rpc.ErrorInfo']];
    if (!isMessage(rich) || !isMessage(info)) return undefined;
    for (const detail of (rich.deserialize(trailer) as RichStatus).details) {
      if (!detail.type_url.endsWith('/google.rpc.ErrorInfo')) continue;
      const { reason } = info.deserialize(detail.value) as { readonly reason: string };
      if (isErrorCode(reason)) return reason;
    }
  } catch {
    return undefined;
  }
  return undefined;
}

function isMessage(definition: AnyDefinition | undefined): definition is MessageTypeDefinition<object, object> {
  return definition !== undefined && 'deserialize' in definition && typeof definition.deserialize === 'function';
}

function isErrorCode(text: string): text is ErrorCode {
  return Number.isInteger(grpcStatus(text as ErrorCode));
}
