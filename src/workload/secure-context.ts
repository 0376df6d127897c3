import { constants } from 'node:crypto';
import type { SecureContextOptions } from 'node:tls';
import { SignetError } from '../base/errors.ts';
import { privateKeyPem } from '../x509/keys.ts';
import { certificatesPem } from './x509-context.ts';
import type { X509Context } from './x509-context.ts';

/** TLS 1.2 and 1.3, authenticated encryption with forward secrecy alone. */
const ciphers = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
].join(':');

/**
 * A server's TLS context: the default identity, and the roots of the one trust domain whose clients it takes. Without
 * resumption, which would let a client in under a certificate that nobody looks at again. Throws CONFIG_INVALID.
 */
export function serverContext(context: X509Context, trustDomain: string): SecureContextOptions {
  const roots = context.bundles.get(trustDomain);
  // An empty one trusts nobody (SPIFFE Trust Domain and Bundle §4), where Node takes an empty `ca` for its public web roots.
  if (!roots || roots.length === 0)
    throw new SignetError('CONFIG_INVALID', `there is no bundle of ${trustDomain}: is this trust domain federated with?`);
  return {
    ...identity(context),
    ca: certificatesPem(roots),
    honorCipherOrder: true,
    secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
  };
}

/** A client's TLS context. Which of the roots may vouch for which server is for `verifyServer` to say. */
export function clientContext(context: X509Context): SecureContextOptions {
  return { ...identity(context), ca: certificatesPem([...context.bundles.values()].flat()) };
}

function identity({ svids: [{ certificates, privateKey }] }: X509Context): SecureContextOptions {
  return { cert: certificatesPem(certificates), key: privateKeyPem(privateKey), minVersion: 'TLSv1.2', ciphers };
}
