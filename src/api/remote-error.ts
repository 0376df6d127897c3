import type { ServiceError } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import { readErrorDetails } from '../base/error-details-reader.ts';
import { SignetError } from '../base/errors.ts';
import { harmless } from '../base/harmless.ts';

const longestMessage = 1000;

/** What a server answered, or that none did, as one of our errors. Its words are shown without what a terminal would obey. */
export function remoteError(error: unknown, address: string): SignetError {
  if (!isServiceError(error)) return SignetError.from(error);
  const { reason, retryAfterMs } = readErrorDetails(error.metadata.get('grpc-status-details-bin')[0]);
  const said = harmless(error.details.slice(0, longestMessage));
  if (reason !== undefined) return new SignetError(reason, said, { cause: error, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) });
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
