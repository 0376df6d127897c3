/** A hundred rotations of identity and bundle under load. */
import { it } from 'node:test';
import { startMesh } from '../support/mesh.ts';
import { foreignCa } from '../support/openssl.ts';
import { rotationStory } from '../support/rotation-story.ts';

it('a hundred rotations: state of the world, HTTP/1.1, Envoy 1.40', async (t) => {
  await using mesh = await startMesh({ leafTtl: '6s', extraRoots: (await foreignCa()).certificate });
  await rotationStory(t, mesh, {
    envoy: { serviceAccount: 'web', api: 'sotw', version: '1.40.0' },
    http: 'h1',
    rotations: 100,
    bundles: true,
  });
});
