/** A hundred rotations of identity and bundle under load, on the newest Envoy and on an old one. */
import { describe, it } from 'node:test';
import { startMesh } from '../support/mesh.ts';
import { foreignCa } from '../support/openssl.ts';
import { rotationStory } from '../support/rotation-story.ts';

describe('a hundred rotations of identity and bundle', () => {
  it('state of the world, HTTP/1.1, Envoy 1.40', async (t) => {
    await using mesh = await startMesh({ leafTtl: '6s', extraRoots: (await foreignCa()).certificate });
    await rotationStory(t, mesh, {
      envoy: { serviceAccount: 'web', api: 'sotw', version: '1.40.0' },
      http: 'h1',
      rotations: 100,
      bundles: true,
    });
  });

  it('Delta, HTTP/2, Envoy 1.36', async (t) => {
    await using mesh = await startMesh({ leafTtl: '6s', extraRoots: (await foreignCa()).certificate });
    await rotationStory(t, mesh, {
      envoy: { serviceAccount: 'web', api: 'delta', version: '1.36.4' },
      http: 'h2',
      rotations: 100,
      bundles: true,
    });
  });
});
