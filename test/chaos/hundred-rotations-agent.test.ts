/** A hundred rotations of identity and bundle under load, over an agent's socket. */
import { it } from 'node:test';
import { startMesh } from '../support/mesh.ts';
import { foreignCa } from '../support/openssl.ts';
import { rotationStory } from '../support/rotation-story.ts';

it("a hundred rotations: an agent's socket, Delta, HTTP/2, Envoy 1.40", async (t) => {
  await using mesh = await startMesh({ leafTtl: '6s', extraRoots: (await foreignCa()).certificate });
  await rotationStory(t, mesh, {
    envoy: { serviceAccount: 'web', auth: 'agent', api: 'delta' },
    http: 'h2',
    rotations: 100,
    bundles: true,
  });
});
