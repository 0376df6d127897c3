/** An intermediate of ours, as the page configures it, while SPIRE above it is away. */
import { startSpireServer } from '../support/engines/spire-server.ts';
import { pageConfig } from '../support/page-config.ts';
import { keepSpireFiles } from '../support/spire-files.ts';
import { tempFolder } from '../support/temp.ts';
import { describeUpstreamAway } from '../support/upstream-away-story.ts';

describeUpstreamAway('intermediate below SPIRE', async () => {
  const folder = await tempFolder();
  const spire = await startSpireServer('cluster.local');
  const files = await keepSpireFiles(spire, folder, '/signet');
  const { ca } = await pageConfig('ca-intermediate.md', 'Below SPIRE', {
    'spire-server.spire.svc:8081': spire.address,
    '/run/spiffe/bundle.pem': files.caFile,
    '/run/spiffe/svid.pem': files.certificateFile,
    '/run/spiffe/key.pem': files.keyFile,
  });
  return {
    settings: { ...ca?.backends?.['central'] },
    stop: spire.stop,
    start: spire.start,
    async [Symbol.asyncDispose]() {
      await spire[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
});
