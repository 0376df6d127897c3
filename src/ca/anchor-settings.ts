import { z } from 'zod';

/**
 * What a backend's settings say of its trust anchors. `follow`: what the authority's own authenticated endpoint, or the
 * configured file, gives is trusted, and a new one is audited. `pinned`: a certificate is trusted only once its SHA-256
 * is listed here, whatever the backend says.
 */
export function anchorFields(initially: 'follow' | 'pinned') {
  return {
    anchors: z
      .enum(['follow', 'pinned'])
      .prefault(initially)
      .describe(
        '`follow`: a new root of this CA is trusted as soon as the CA itself names it. `pinned`: only those in `approvedAnchors`, and the log says what waits there.',
      ),
    approvedAnchors: z
      .array(z.string().regex(/^[0-9a-f]{64}$/, 'must be the SHA-256 of a certificate in DER: 64 lower-case hex digits'))
      .max(100)
      .prefault([])
      .describe(
        'With `pinned`: the roots that are trusted, each as the SHA-256 of its DER (`openssl x509 -noout -fingerprint -sha256`, without colons, in lower case).',
      ),
  };
}
