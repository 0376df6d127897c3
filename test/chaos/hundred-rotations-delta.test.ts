/** A hundred rotations of identity and bundle under load. */
import { it } from 'node:test';
import { startMesh } from '../support/mesh.ts';
import { foreignCa } from '../support/openssl.ts';
import { rotationStory } from '../support/rotation-story.ts';

it('a hundred rotations: Delta, HTTP/2, Envoy 1.36', async (t) => {
  await using mesh = await startMesh({ leafTtl: '6s', extraRoots: (await foreignCa()).certificate });
  await rotationStory(t, mesh, {
    envoy: { serviceAccount: 'web', api: 'delta', version: '1.36.4' },
    http: 'h2',
    rotations: 100,
    bundles: true,
  });
});
