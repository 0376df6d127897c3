import { describeAuthorityAway } from '../support/authority-away-story.ts';
import { emulatedGoogle } from '../support/emulated-google.ts';

describeAuthorityAway('gcp-cas', async () => {
  const google = await emulatedGoogle();
  return {
    settings: { type: 'gcp-cas', caPool: google.caPool, credentialsFile: await google.credentialsFile(), endpoint: google.url },
    stop: () => google.outage.stop(),
    start: () => google.outage.start(),
    [Symbol.asyncDispose]: () => google[Symbol.asyncDispose](),
  };
});
