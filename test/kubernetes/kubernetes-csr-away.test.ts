/** The signer is stopped: CertificateSigningRequests are made, and nobody answers them. */
import { describeAuthorityAway } from '../support/authority-away-story.ts';
import { csrWorld } from '../support/csr-world.ts';

// The least that a tier may be with this backend; of that the signer gives 20 s, and dates them a minute back.
const leafTtl = { text: '21m', ms: 20_000 };

describeAuthorityAway(
  'kubernetes-csr',
  async () => {
    const world = await csrWorld({ shortMs: leafTtl.ms });
    const { signer, settings } = world;
    return {
      settings,
      stop: () => signer.stop(),
      start() {
        signer.start();
        return Promise.resolve();
      },
      [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
    };
  },
  { leafTtl },
);
