import type { DeliveredSecret } from '../ledger/delivery.ts';
import type { Published, SecretFeed } from './secret-source.ts';

/** One description of a version, shared by all streams that it is sent on. */
const descriptions = new WeakMap<Published, DeliveredSecret>();

/** What the ledger is told of a secret: no key, no bytes. */
export function deliveredOf(feed: SecretFeed, published: Published): DeliveredSecret {
  const known = descriptions.get(published);
  if (known?.key === feed.key) return known;
  const identity = published.type === 'identity' ? published.identity : undefined;
  const description: DeliveredSecret = {
    key: feed.key,
    type: published.type,
    version: published.version,
    generation: published.type === 'validation' ? published.generation : undefined,
    serial: identity?.chain.serial,
    keyOnHost: identity !== undefined && 'file' in identity.key,
  };
  descriptions.set(published, description);
  return description;
}
