import { Metadata, status } from '@grpc/grpc-js';
import type { StatusObject } from '@grpc/grpc-js';
import { grpcStatus, SignetError } from '../base/errors.ts';
import { bytesField, textField } from './wire.ts';

/** google.rpc.Status and ErrorInfo, from proto/google/rpc. */
const statusField = { message: 2, details: 3 } as const;
const errorInfoField = { reason: 1, domain: 2 } as const;
const anyField = { typeUrl: 1, value: 2 } as const;
const errorInfoType = 'type.googleapis.com/google.rpc.ErrorInfo';
const domain = 'signet';

/** grpc-js's names of the numbers. */
const statuses = Object.values(status).filter((value) => typeof value === 'number');

/** How a stream or call ends by an error: its public message, and its stable code as google.rpc.ErrorInfo. */
export function statusOf(error: unknown): Partial<StatusObject> {
  const { code, message } = SignetError.from(error);
  const info = Buffer.concat([textField(errorInfoField.reason, code), textField(errorInfoField.domain, domain)]);
  const number = grpcStatus(code);
  const metadata = new Metadata();
  metadata.set(
    'grpc-status-details-bin',
    Buffer.concat([
      // Field 1, code, a varint: below 17, so one byte.
      Buffer.from([1 << 3, number]),
      textField(statusField.message, message),
      bytesField(statusField.details, textField(anyField.typeUrl, errorInfoType), bytesField(anyField.value, info)),
    ]),
  );
  return { code: statuses[number] ?? status.INTERNAL, details: message, metadata };
}
