import { fileURLToPath } from 'node:url';
import { authoritySuite } from '../support/authority-suite.ts';
import { pluginTrustDomain, templatePlugin } from '../support/plugin-location.ts';

const main = fileURLToPath(new URL('../../examples/plugins/typescript/src/main.ts', import.meta.url));

authoritySuite({
  name: 'plugin-typescript',
  engine: `examples/plugins/typescript on Node ${process.versions.node}`,
  trustDomain: pluginTrustDomain,
  intermediates: 0,
  make: () => templatePlugin([process.execPath, main]),
});
