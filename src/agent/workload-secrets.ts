import type { Clock } from '../base/clock.ts';
import type { Caller } from '../identity/caller.ts';
import type { Admission, FeedState, Published, SecretFeed, SecretSource } from '../sds/secret-source.ts';
import type { SpiffeId, TrustDomain } from '../spiffe/id.ts';
import { parseSpiffeId } from '../spiffe/id.ts';
import { checkIdentity } from '../x509/preflight.ts';
import { sha256Hex } from '../x509/keys.ts';
import type { TrustVersion, WorkloadMaterial, WorkloadMaterialFeed } from './workload-material.ts';

export const trustFeedKey = 'bundle';

/** One version of anchors as it is published: shared by all workloads that trust the same. */
const publishedTrust = new WeakMap<TrustVersion, Published>();

/** `<generation>.<hash>`, as the control plane counts. */
export function trustVersionOf(trust: TrustVersion): string {
  return `${String(trust.generation)}.${sha256Hex(Buffer.from(trust.anchors.pem)).slice(0, 16)}`;
}

function published(trust: TrustVersion): Published {
  let known = publishedTrust.get(trust);
  if (!known) {
    const { generation, anchors } = trust;
    publishedTrust.set(trust, (known = { type: 'validation', version: trustVersionOf(trust), generation, anchors }));
  }
  return known;
}

/**
 * A workload's secrets, as its own Envoys ask for them over its socket: the same names and the same code as the server's.
 * Whoever came through the socket is the workload, so nobody shows a credential.
 */
export function workloadSecrets(parts: {
  readonly name: string;
  readonly trustDomain: TrustDomain;
  readonly spiffeId: SpiffeId | undefined;
  readonly feed: WorkloadMaterialFeed;
  readonly clock: Clock;
}): { readonly source: SecretSource; readonly admission: Admission } {
  const { feed, clock, trustDomain } = parts;
  let identity: { readonly of: WorkloadMaterial['chain']; readonly published: Published } | undefined;

  function currentIdentity(): FeedState {
    const material = feed.current();
    // One that has ended helps nobody: whoever has nothing waits for the next, and whoever has it keeps it.
    if (!material || material.chain.notAfter <= clock.now()) return 'pending';
    const { chain, key } = material;
    if (identity?.of !== chain) {
      const checked = checkIdentity(chain, { inline: key });
      identity = { of: chain, published: { type: 'identity', version: chain.serial, identity: checked } };
    }
    return identity.published;
  }

  function currentTrust(): FeedState {
    const trust = feed.current()?.anchors.get(trustDomain);
    return trust ? published(trust) : 'pending';
  }

  const identityFeed: SecretFeed = { type: 'identity', key: 'identity', current: currentIdentity, subscribe: feed.subscribe };
  const trustFeed: SecretFeed = { type: 'validation', key: trustFeedKey, current: currentTrust, subscribe: feed.subscribe };
  const caller: Caller = {
    issuer: 'socket',
    subject: parts.name,
    // Under a path that no workload can be given: the identity isn't known before the first certificate.
    spiffeId: parseSpiffeId(`spiffe://${trustDomain}/signet/socket/${parts.name}`),
    instance: parts.name,
    authenticatedBy: 'token',
    credentialEnds: Number.MAX_SAFE_INTEGER,
    tokenSeenAt: clock.now(),
    provedBy: 'socket',
  };

  return {
    source: {
      lookup(_caller, name) {
        if (name === 'ROOTCA' || name === `spiffe://${trustDomain}`) return trustFeed;
        if (name === 'default' || name === (parts.spiffeId ?? feed.current()?.spiffeId)) return identityFeed;
        return undefined;
      },
    },
    admission: {
      authenticate: () => caller,
      refusal: () => undefined,
      onChange: () => () => undefined,
    },
  };
}
