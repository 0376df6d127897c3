import { SignetError } from '../base/errors.ts';
import { decoder } from './definitions.ts';
import type { Decode } from './definitions.ts';
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

const longestNodeText = 128;
let decodeSotw: Decode | undefined;
let decodeDelta: Decode | undefined;

/** Throws INVALID_ARGUMENT: undecodable, or about another type of resource. */
export function sotwRequest(bytes: Buffer): SotwRequest {
  decodeSotw ??= decoder('DiscoveryRequest');
  const message = fields(decodeSotw(bytes));
  checkType(message);
  return {
    node: nodeOf(message['node']),
    version: text(message['version_info']),
    nonce: text(message['response_nonce']),
    names: texts(message['resource_names']),
    error: errorOf(message['error_detail']),
  };
}

/** Throws INVALID_ARGUMENT: undecodable, or about another type of resource. */
export function deltaRequest(bytes: Buffer): DeltaRequest {
  decodeDelta ??= decoder('DeltaDiscoveryRequest');
  const message = fields(decodeDelta(bytes));
  checkType(message);
  return {
    node: nodeOf(message['node']),
    nonce: text(message['response_nonce']),
    subscribe: texts(message['resource_names_subscribe']),
    unsubscribe: texts(message['resource_names_unsubscribe']),
    held: new Map(Object.entries(fields(message['initial_resource_versions'])).map(([name, version]) => [name, text(version)])),
    error: errorOf(message['error_detail']),
  };
}

/** One type URL, implicit when empty: this service serves no other, also later on the same stream. */
function checkType(message: Readonly<Record<string, unknown>>): void {
  const url = text(message['type_url']);
  if (url !== '' && url !== secretTypeUrl) throw new SignetError('INVALID_ARGUMENT', `this service serves ${secretTypeUrl} alone`);
}

function nodeOf(value: unknown): NodeInfo | undefined {
  if (value === undefined || value === null) return undefined;
  const node = fields(value);
  const build = fields(fields(node['user_agent_build_version'])['version']);
  const parts = [build['major_number'], build['minor_number'], build['patch']];
  const version = parts.every((part) => typeof part === 'number') ? parts.map(String).join('.') : text(node['user_agent_version']);
  return { id: shown(text(node['id'])), envoyVersion: shown(version) };
}

/** For people to read: short, and nothing that a terminal or a log could take for more than text. */
function shown(value: string): string {
  return value.slice(0, longestNodeText).replace(/[^\x21-\x7e]/g, '?');
}

function errorOf(value: unknown): ErrorDetail | undefined {
  if (value === undefined || value === null) return undefined;
  const { code, message } = fields(value);
  return { code: typeof code === 'number' ? code : 0, message: text(message) };
}

function fields(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function texts(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}
