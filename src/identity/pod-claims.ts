import type { Pod } from './caller.ts';
import type { JsonObject } from './json-pointer.ts';
import { isJsonObject } from './json-pointer.ts';

/** As Kubernetes names things (RFC 1123), and its UIDs. */
const nameCharacters = /^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/;
const uidCharacters = /^[A-Za-z0-9-]{1,64}$/;

/** The pod that a projected service-account token is bound to; undefined where the token names none, or oddly. */
export function podOf(claims: JsonObject): Pod | undefined {
  const kubernetes = claims['kubernetes.io'];
  if (!isJsonObject(kubernetes) || !isJsonObject(kubernetes['pod'])) return undefined;
  const namespace = kubernetes['namespace'];
  const { name, uid } = kubernetes['pod'];
  if (typeof namespace !== 'string' || typeof name !== 'string' || typeof uid !== 'string') return undefined;
  if (!nameCharacters.test(namespace) || !nameCharacters.test(name) || !uidCharacters.test(uid)) return undefined;
  return { namespace, name, uid };
}
