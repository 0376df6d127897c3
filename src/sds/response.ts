import { createHash } from 'node:crypto';
import { bytesField, textField } from '../base/wire-writer.ts';
import { encodeSecret, secretTypeUrl } from './secret.ts';
import type { Published } from './secret-source.ts';

export interface NamedSecret {
  readonly name: string;
  readonly published: Published;
}

/** Field numbers, from proto/envoy/service/discovery/v3. The nonce's is the same in both responses. */
const sotwField = { versionInfo: 1, resources: 2, typeUrl: 4 } as const;
const deltaField = { systemVersionInfo: 1, resources: 2, typeUrl: 4, removedResources: 6 } as const;
const resourceField = { version: 1, resource: 2, name: 3 } as const;
const anyField = { typeUrl: 1, value: 2 } as const;
const nonceField = 5;

const typeUrlOfAny = textField(anyField.typeUrl, secretTypeUrl);
const typeUrlOfResponse = textField(sotwField.typeUrl, secretTypeUrl);

/** The version of a set that is empty. Envoy ignores an empty string. */
const emptyVersion = '0';

/**
 * The version of a whole response: of one secret, its own; of several, one that is equal only if the same names have the
 * same versions. A version is the client's to compare with itself, so one name's need not differ from another name's.
 */
export function versionOf(secrets: readonly NamedSecret[]): string {
  const [first] = secrets;
  if (!first) return emptyVersion;
  if (secrets.length === 1) return first.published.version;
  const hash = createHash('sha256');
  for (const { name, published } of sortByName(secrets)) hash.update(`${JSON.stringify([name, published.version])}\n`);
  return `set-${String(secrets.length)}-${hash.digest('hex').slice(0, 32)}`;
}

/** A DiscoveryResponse without its nonce. */
export function sotwBody(version: string, secrets: readonly NamedSecret[]): Buffer {
  return shared('sotw', version, secrets, () =>
    Buffer.concat([
      textField(sotwField.versionInfo, version),
      ...sortByName(secrets).map((secret) => bytesField(sotwField.resources, ...anyFields(secret))),
      typeUrlOfResponse,
    ]),
  );
}

/** A DeltaDiscoveryResponse without its nonce. No name is both in `secrets` and in `removed`, nor twice in either: Envoy refuses that. */
export function deltaBody(version: string, secrets: readonly NamedSecret[], removed: readonly string[]): Buffer {
  const encode = (): Buffer =>
    Buffer.concat([
      textField(deltaField.systemVersionInfo, version),
      ...sortByName(secrets).map((secret) =>
        bytesField(
          deltaField.resources,
          textField(resourceField.version, secret.published.version),
          bytesField(resourceField.resource, ...anyFields(secret)),
          textField(resourceField.name, secret.name),
        ),
      ),
      typeUrlOfResponse,
      ...removed.map((name) => textField(deltaField.removedResources, name)),
    ]);
  return removed.length > 0 ? encode() : shared('delta', version, secrets, encode);
}

/** Protobuf fields may come in any order, so the one part that differs from stream to stream goes last. */
export function withNonce(body: Buffer, nonce: string): Buffer {
  const response = Buffer.allocUnsafe(body.length + 2 + nonce.length);
  body.copy(response);
  response[body.length] = (nonceField << 3) | 2;
  // Digits of a counter: one byte each, and far fewer than 128.
  response[body.length + 1] = nonce.length;
  response.write(nonce, body.length + 2, 'latin1');
  return response;
}

/**
 * Bodies that many streams share: one secret that isn't anybody's own, which is what a change of trust pushes to all.
 * An identity's is made for each send and not kept: it has few streams, and a private key should have few copies.
 */
const bodies = new WeakMap<Published, Map<string, Buffer>>();

function shared(api: string, version: string, secrets: readonly NamedSecret[], encode: () => Buffer): Buffer {
  const [only] = secrets;
  if (secrets.length !== 1 || only?.published.type !== 'validation') return encode();
  let byName = bodies.get(only.published);
  if (!byName) bodies.set(only.published, (byName = new Map<string, Buffer>()));
  // A system version can be that of a larger set than what is sent.
  const key = `${api} ${version} ${only.name}`;
  let body = byName.get(key);
  if (!body) byName.set(key, (body = encode()));
  return body;
}

function anyFields({ name, published }: NamedSecret): readonly [Buffer, Buffer] {
  return [typeUrlOfAny, bytesField(anyField.value, encodeSecret(name, published))];
}

function sortByName(secrets: readonly NamedSecret[]): readonly NamedSecret[] {
  if (secrets.length < 2) return secrets;
  return secrets.toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}
