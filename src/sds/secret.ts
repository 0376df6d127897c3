import { bytesField, textField } from '../base/wire-writer.ts';
import type { CheckedAnchors, CheckedIdentity } from '../x509/material.ts';
import type { Published } from './secret-source.ts';

/** The one type that this service serves. */
export const secretTypeUrl = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret';

/** Field numbers, from proto/envoy/extensions/transport_sockets/tls/v3 and proto/envoy/config/core/v3. */
const secret = { name: 1, tlsCertificate: 2, validationContext: 4 } as const;
const tlsCertificate = { certificateChain: 1, privateKey: 2 } as const;
const validationContext = { trustedCa: 1 } as const;
const dataSource = { filename: 1, inlineBytes: 2 } as const;

/**
 * The one place where a Secret is made. Envoy takes a Secret of another type, or a validation context without a CA, under
 * a validation name as "verify nothing". Here neither can be written: the material's own checked type decides the field,
 * and CheckedAnchors holds at least one CA.
 */
export function encodeSecret(name: string, published: Published): Buffer {
  switch (published.type) {
    case 'identity':
      return Buffer.concat([textField(secret.name, name), bytesField(secret.tlsCertificate, ...certificateFields(published.identity))]);
    case 'validation':
      return Buffer.concat([textField(secret.name, name), bytesField(secret.validationContext, trustedCaField(published.anchors))]);
  }
}

function certificateFields({ chain, key }: CheckedIdentity): readonly [Buffer, Buffer] {
  const source = 'inline' in key ? inline(key.inline) : textField(dataSource.filename, key.file);
  return [bytesField(tlsCertificate.certificateChain, inline(chain.pems.join(''))), bytesField(tlsCertificate.privateKey, source)];
}

function trustedCaField(anchors: CheckedAnchors): Buffer {
  return bytesField(validationContext.trustedCa, inline(anchors.pem));
}

function inline(pem: string): Buffer {
  return textField(dataSource.inlineBytes, pem);
}
