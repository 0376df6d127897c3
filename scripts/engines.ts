/**
 * Builds the engines that take minutes, one after the other, into the cache of the tests: before the suites that need
 * them, so that no test waits for a build, and no two builds share the machine. What is there already takes no time.
 */
import { certManagerBinary } from '../test/support/engines/cert-manager.ts';
import { istioCaBinary } from '../test/support/engines/istio-ca.ts';
import { kubeBinaries } from '../test/support/engines/kube/binaries.ts';
import { spireServerBinary } from '../test/support/engines/spire-server.ts';
import { stepCaBinary } from '../test/support/engines/step-ca.ts';
import { goPlugin } from '../test/support/go-plugin.ts';

const engines: readonly (readonly [name: string, build: () => Promise<unknown>])[] = [
  ['the plugin in Go', goPlugin],
  ['step-ca', stepCaBinary],
  ["Istio's CA", istioCaBinary],
  ["SPIRE's server", spireServerBinary],
  ['cert-manager', certManagerBinary],
  ['kube-apiserver and etcd', kubeBinaries],
];

for (const [name, build] of engines) {
  const begun = performance.now();
  process.stdout.write(`${name} ... `);
  await build();
  console.log(`${((performance.now() - begun) / 1000).toFixed(0)} s`);
}
