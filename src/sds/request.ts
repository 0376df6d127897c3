import { SignetError } from '../base/errors.ts';
import { entryOf, readFields, textOf } from '../base/wire-reader.ts';
import { secretTypeUrl } from './secret.ts';

/** Why a client refused a response. The text can hold a private key: it goes to the ledger's classifier and nowhere else. */
export interface ErrorDetail {
  readonly code: number;
  readonly message: string;
}

/** What the node says of itself, capped and cleaned; undefined where the request has none. */
export interface NodeInfo {
  readonly id: string;
  readonly envoyVersion: string;
}

export interface SotwRequest {
  readonly node: NodeInfo | undefined;
  readonly version: string;
  readonly nonce: string;
  readonly names: readonly string[];
  readonly error: ErrorDetail | undefined;
}

export interface DeltaRequest {
  readonly node: NodeInfo | undefined;
  readonly nonce: string;
  readonly subscribe: readonly string[];
  readonly unsubscribe: readonly string[];
  /** What the client still holds: version by name. Of a stream's first request only. */
  readonly held: ReadonlyMap<string, string>;
  readonly error: ErrorDetail | undefined;
}

/** Field numbers, from proto/envoy/service/discovery/v3, proto/envoy/config/core/v3 and proto/google/rpc. */
const sotwField = { versionInfo: 1, node: 2, resourceNames: 3, typeUrl: 4, responseNonce: 5, errorDetail: 6 } as const;
const deltaField = { node: 1, typeUrl: 2, subscribe: 3, unsubscribe: 4, initialVersions: 5, responseNonce: 6, errorDetail: 7 } as const;
const nodeField = { id: 1, userAgentVersion: 7, userAgentBuildVersion: 8 } as const;
const buildVersionField = { version: 1 } as const;
const statusField = { code: 1, message: 2 } as const;

const longestNodeText = 128;

/** Throws INVALID_ARGUMENT: undecodable, or about another type of resource. */
export function sotwRequest(bytes: Buffer): SotwRequest {
  let node: NodeInfo | undefined;
  let version = '';
  let nonce = '';
  let typeUrl = '';
  let error: ErrorDetail | undefined;
  const names: string[] = [];
  readFields(bytes, (field, value) => {
    if (field === sotwField.versionInfo) version = textOf(value) ?? version;
    else if (field === sotwField.typeUrl) typeUrl = textOf(value) ?? typeUrl;
    else if (field === sotwField.responseNonce) nonce = textOf(value) ?? nonce;
    else if (typeof value === 'number') return;
    else if (field === sotwField.resourceNames) names.push(textOf(value) ?? '');
    else if (field === sotwField.node) node = nodeOf(value);
    else if (field === sotwField.errorDetail) error = errorOf(value);
  });
  checkType(typeUrl);
  return { node, version, nonce, names, error };
}

/** Throws INVALID_ARGUMENT: undecodable, or about another type of resource. */
export function deltaRequest(bytes: Buffer): DeltaRequest {
  let node: NodeInfo | undefined;
  let nonce = '';
  let typeUrl = '';
  let error: ErrorDetail | undefined;
  const subscribe: string[] = [];
  const unsubscribe: string[] = [];
  const held = new Map<string, string>();
  readFields(bytes, (field, value) => {
    if (field === deltaField.typeUrl) typeUrl = textOf(value) ?? typeUrl;
    else if (field === deltaField.responseNonce) nonce = textOf(value) ?? nonce;
    else if (typeof value === 'number') return;
    else if (field === deltaField.subscribe) subscribe.push(textOf(value) ?? '');
    else if (field === deltaField.unsubscribe) unsubscribe.push(textOf(value) ?? '');
    else if (field === deltaField.initialVersions) held.set(...entryOf(value));
    else if (field === deltaField.node) node = nodeOf(value);
    else if (field === deltaField.errorDetail) error = errorOf(value);
  });
  checkType(typeUrl);
  return { node, nonce, subscribe, unsubscribe, held, error };
}

/** One type URL, implicit when empty: this service serves no other, also later on the same stream. */
function checkType(url: string): void {
  if (url !== '' && url !== secretTypeUrl) throw new SignetError('INVALID_ARGUMENT', `this service serves ${secretTypeUrl} alone`);
}

function nodeOf(bytes: Buffer): NodeInfo {
  let id = '';
  let text = '';
  let build: string | undefined;
  readFields(bytes, (field, value) => {
    if (typeof value === 'number') return;
    if (field === nodeField.id) id = shown(value);
    else if (field === nodeField.userAgentVersion) text = shown(value);
    else if (field === nodeField.userAgentBuildVersion) build = buildVersionOf(value);
  });
  return { id, envoyVersion: build ?? text };
}

function buildVersionOf(bytes: Buffer): string | undefined {
  const parts: number[] = [];
  readFields(bytes, (field, value) => {
    if (field !== buildVersionField.version || typeof value === 'number') return;
    parts.splice(0, 3, 0, 0, 0);
    readFields(value, (part, number) => {
      if (part <= 3 && typeof number === 'number') parts[part - 1] = number;
    });
  });
  return parts.length > 0 ? parts.join('.') : undefined;
}

/** For people to read: short, and nothing that a terminal or a log could take for more than text. */
function shown(bytes: Buffer): string {
  const text = bytes.toString('latin1', 0, longestNodeText);
  return /^[\x21-\x7e]*$/.test(text) ? text : text.replace(/[^\x21-\x7e]/g, '?');
}

/** Its text may be any bytes: a refusal is not refused for what it quotes. */
function errorOf(bytes: Buffer): ErrorDetail {
  let code = 0;
  let message = '';
  readFields(bytes, (field, value) => {
    if (field === statusField.code && typeof value === 'number') code = value;
    else if (field === statusField.message && typeof value !== 'number') message = value.toString('utf8');
  });
  return { code, message };
}
