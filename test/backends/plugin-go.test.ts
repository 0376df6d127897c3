import { authoritySuite } from '../support/authority-suite.ts';
import { goPlugin } from '../support/go-plugin.ts';
import { pluginTrustDomain, templatePlugin } from '../support/plugin-location.ts';

authoritySuite({
  name: 'plugin-go',
  engine: 'examples/plugins/go',
  trustDomain: pluginTrustDomain,
  intermediates: 0,
  make: async () => templatePlugin([await goPlugin()]),
});
