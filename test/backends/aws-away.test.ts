import { describeAuthorityAway } from '../support/authority-away-story.ts';
import { fakeAwsPca } from '../support/fake-aws-pca.ts';

describeAuthorityAway('aws-pca', async () => {
  const pca = await fakeAwsPca();
  return {
    settings: { type: 'aws-pca', certificateAuthority: pca.certificateAuthority, endpoint: pca.url },
    mesh: { env: pca.environment() },
    stop: () => pca.outage.stop(),
    start: () => pca.outage.start(),
    [Symbol.asyncDispose]: () => pca[Symbol.asyncDispose](),
  };
});
