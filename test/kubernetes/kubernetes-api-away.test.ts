/** The API server itself is away, with its etcd: no CertificateSigningRequest can be made. */
import { describeAuthorityAway } from '../support/authority-away-story.ts';
import { csrWorld } from '../support/csr-world.ts';

// An API server needs some seconds to come up: of 20 s that would be too much.
const leafTtl = { text: '21m', ms: 40_000 };

describeAuthorityAway(
  'kubernetes-api-server',
  async () => {
    const world = await csrWorld({ shortMs: leafTtl.ms });
    const { kube, settings } = world;
    return { settings, stop: kube.stop, start: kube.start, [Symbol.asyncDispose]: () => world[Symbol.asyncDispose]() };
  },
  { leafTtl, reportAs: 'kubernetes-csr, its API server' },
);
