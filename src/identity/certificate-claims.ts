import type { Certificate } from '../x509/certificate.ts';
import { nameAttributes } from '../x509/distinguished-name.ts';
import type { JsonObject } from './json-pointer.ts';

/**
 * What rules may read of a certificate, as claims: `/subject/CN`, `/dns`, `/uri`, `/serial`, `/spki`. A name of which the
 * certificate has several is left out: no rule may pick one of them, or its holder could choose who it is.
 */
export function certificateClaims(certificate: Certificate): JsonObject {
  const { dnsNames, uris, serial, spkiSha256, subject } = certificate;
  return {
    subject: nameAttributes(subject),
    ...only('dns', dnsNames),
    ...only('uri', uris),
    serial,
    spki: spkiSha256,
  };
}

function only(name: string, values: readonly string[]): JsonObject {
  const [value, ...others] = values;
  return value === undefined || others.length > 0 ? {} : { [name]: value };
}
