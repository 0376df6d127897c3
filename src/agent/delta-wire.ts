import { SignetError } from '../base/errors.ts';
import { readFields, textOf } from '../base/wire-reader.ts';
import { secretTypeUrl } from '../sds/secret.ts';
import { bytesField, textField } from '../base/wire-writer.ts';
import { certificatesFromPem } from '../x509/pem.ts';

/** The client's half of incremental SDS, as far as an agent takes trust by it. Field numbers, from proto/envoy and proto/google/rpc. */
const requestField = { node: 1, typeUrl: 2, subscribe: 3, initialVersions: 5, responseNonce: 6, errorDetail: 7 } as const;
const nodeField = { id: 1 } as const;
const responseField = { resources: 2, typeUrl: 4, nonce: 5, removed: 6 } as const;
const resourceField = { version: 1, resource: 2, name: 3 } as const;
const anyField = { typeUrl: 1, value: 2 } as const;
const statusField = { message: 2 } as const;
const secretField = { name: 1, validationContext: 4 } as const;
const validationField = { trustedCa: 1 } as const;
const dataSourceField = { inlineBytes: 2 } as const;

export interface DeltaOpening {
  readonly nodeId: string;
  readonly subscribe: readonly string[];
  /** What is held already, version by name: what was taken, and no more. */
  readonly held: ReadonlyMap<string, string>;
}

export function openingRequest({ nodeId, subscribe, held }: DeltaOpening): Buffer {
  return Buffer.concat([
    bytesField(requestField.node, textField(nodeField.id, nodeId)),
    textField(requestField.typeUrl, secretTypeUrl),
    ...subscribe.map((name) => textField(requestField.subscribe, name)),
    ...[...held].map(([name, version]) => bytesField(requestField.initialVersions, textField(1, name), textField(2, version))),
  ]);
}

/** An acknowledgement of one response, or a refusal with a reason: the reason is ours and holds nothing of the resource. */
export function settlingRequest(nonce: string, refusal?: string): Buffer {
  return Buffer.concat([
    textField(requestField.typeUrl, secretTypeUrl),
    textField(requestField.responseNonce, nonce),
    ...(refusal === undefined ? [] : [bytesField(requestField.errorDetail, textField(statusField.message, refusal))]),
  ]);
}

export interface DeltaResource {
  readonly name: string;
  readonly version: string;
  /** envoy.extensions.transport_sockets.tls.v3.Secret. */
  readonly secret: Buffer;
}

export interface DeltaResponse {
  readonly nonce: string;
  readonly resources: readonly DeltaResource[];
  readonly removed: readonly string[];
}

/** Throws INVALID_ARGUMENT: undecodable, or of another type. */
export function readResponse(bytes: Buffer): DeltaResponse {
  let nonce = '';
  let typeUrl = '';
  const resources: DeltaResource[] = [];
  const removed: string[] = [];
  readFields(bytes, (field, value) => {
    if (field === responseField.nonce) nonce = textOf(value) ?? nonce;
    else if (field === responseField.typeUrl) typeUrl = textOf(value) ?? typeUrl;
    else if (typeof value === 'number') return;
    else if (field === responseField.removed) removed.push(textOf(value) ?? '');
    else if (field === responseField.resources) resources.push(resourceOf(value));
  });
  if (typeUrl !== '' && typeUrl !== secretTypeUrl) throw malformed('resources of another type');
  return { nonce, resources, removed };
}

function resourceOf(bytes: Buffer): DeltaResource {
  let name = '';
  let version = '';
  let secret: Buffer | undefined;
  readFields(bytes, (field, value) => {
    if (field === resourceField.name) name = textOf(value) ?? name;
    else if (field === resourceField.version) version = textOf(value) ?? version;
    else if (field === resourceField.resource && typeof value !== 'number') secret = secretOf(value);
  });
  if (!secret) throw malformed('a resource without content');
  return { name, version, secret };
}

function secretOf(any: Buffer): Buffer | undefined {
  let typeUrl = '';
  let content: Buffer | undefined;
  readFields(any, (field, value) => {
    if (field === anyField.typeUrl) typeUrl = textOf(value) ?? typeUrl;
    else if (field === anyField.value && typeof value !== 'number') content = value;
  });
  if (typeUrl !== secretTypeUrl) throw malformed('a resource of another type');
  return content;
}

/** The CA certificates (DER) of a Secret that is a validation context; throws INVALID_ARGUMENT for any other, or one without a CA. */
export function anchorsOf(secret: Buffer): readonly Buffer[] {
  const context = fieldOf(secret, secretField.validationContext);
  const ca = context && fieldOf(context, validationField.trustedCa);
  const inline = ca && fieldOf(ca, dataSourceField.inlineBytes);
  if (!inline) throw malformed('a validation context without a CA');
  return certificatesFromPem(inline.toString('latin1'));
}

function fieldOf(bytes: Buffer, wanted: number): Buffer | undefined {
  let found: Buffer | undefined;
  readFields(bytes, (field, value) => {
    if (field === wanted && typeof value !== 'number') found = value;
  });
  return found;
}

function malformed(what: string): SignetError {
  return new SignetError('INVALID_ARGUMENT', `the server sent ${what}`);
}
