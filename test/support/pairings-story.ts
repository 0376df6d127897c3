import { describe, it } from 'node:test';
import { startMesh } from './mesh.ts';
import { foreignCa } from './openssl.ts';
import { rotationStory } from './rotation-story.ts';

type Auth = 'google-grpc-token' | 'envoy-grpc-token' | 'client-certificate' | 'agent';

/** Five rotations on every pairing of API type, key mode, Envoy and HTTP version with one way of authenticating. */
export function describePairings(auth: Auth): void {
  describe(`five rotations, ${auth}`, () => {
    for (const api of ['sotw', 'delta'] as const) {
      // Whose keys are an agent's has no key mode to choose.
      for (const serviceAccount of auth === 'agent' ? ['web'] : ['web', 'csr-web']) {
        for (const [version, http] of [
          ['1.40.0', 'h2'],
          ['1.36.4', 'h1'],
        ] as const) {
          const mode = auth === 'agent' ? 'agent' : serviceAccount === 'web' ? 'server' : 'csr';
          it(`${api}, key mode ${mode}, ${http}, Envoy ${version}`, async (t) => {
            const extraRoots = (await foreignCa()).certificate;
            // A certificate shown to Signet is as short-lived here as any: it is replaced often, and connections must not outlive it.
            const shortLived =
              auth === 'client-certificate' ? { bootstrapEveryMs: 2000, config: { limits: { maxConnectionAge: '2s' } } } : {};
            await using mesh = await startMesh({ leafTtl: auth === 'client-certificate' ? '12s' : '8s', extraRoots, ...shortLived });
            await rotationStory(t, mesh, { envoy: { serviceAccount, auth, api, version }, http, rotations: 5, bundles: true });
          });
        }
      }
    }
  });
}
