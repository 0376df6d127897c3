import { SignetError } from '../base/errors.ts';
import { readFields, textOf } from '../base/wire-reader.ts';
import { bytesField, entryField, textField } from '../base/wire-writer.ts';
import { encodeStruct } from './struct.ts';
import type { JwtSvid, X509State } from './workload-source.ts';

/**
 * The messages of proto/spiffe/workload.proto, by hand: the bytes of a state are made once and shared by all of its
 * streams, and a request is read strictly.
 */
const x509Response = { svids: 1, crl: 2, federatedBundles: 3 } as const;
const x509Svid = { spiffeId: 1, chain: 2, key: 3, bundle: 4, hint: 5 } as const;
const bundlesResponse = { crl: 1, bundles: 2 } as const;
const jwtRequest = { audience: 1, spiffeId: 2 } as const;
const jwtResponse = { svids: 1 } as const;
const jwtSvid = { spiffeId: 1, svid: 2, hint: 3 } as const;
const jwtBundlesResponse = { bundles: 1 } as const;
const validateRequest = { audience: 1, svid: 2 } as const;
const validateResponse = { spiffeId: 1, claims: 2 } as const;

/** An X509SVIDResponse. Bundles of trust domains that none of the identities is in are the federated ones. */
export function encodeX509Svids({ svids, bundles, crls }: X509State): Buffer {
  const own = new Set(svids.map((svid) => trustDomainIn(svid.spiffeId)));
  return Buffer.concat([
    ...svids.map((svid) => {
      const bundle = bundles.get(trustDomainIn(svid.spiffeId));
      // An identity whose peers can't be verified is of no use, and an empty bundle reads as "trust nobody".
      if (!bundle || bundle.length === 0) throw new SignetError('INTERNAL', 'an identity without the bundle of its trust domain');
      return bytesField(
        x509Response.svids,
        textField(x509Svid.spiffeId, svid.spiffeId),
        bytesField(x509Svid.chain, ...svid.chain),
        bytesField(x509Svid.key, svid.keyPkcs8),
        bytesField(x509Svid.bundle, ...bundle),
        ...(svid.hint === '' ? [] : [textField(x509Svid.hint, svid.hint)]),
      );
    }),
    ...crls.map((crl) => bytesField(x509Response.crl, crl)),
    ...sorted(bundles)
      .filter(([trustDomain]) => !own.has(trustDomain))
      .map(([trustDomain, certificates]) => entryField(x509Response.federatedBundles, trustDomain, Buffer.concat(certificates))),
  ]);
}

/** An X509BundlesResponse. */
export function encodeX509Bundles({ bundles, crls }: X509State): Buffer {
  return Buffer.concat([
    ...crls.map((crl) => bytesField(bundlesResponse.crl, crl)),
    ...sorted(bundles).map(([trustDomain, certificates]) => entryField(bundlesResponse.bundles, trustDomain, Buffer.concat(certificates))),
  ]);
}

/** A JWTBundlesResponse. */
export function encodeJwtBundles(bundles: ReadonlyMap<string, string>): Buffer {
  return Buffer.concat(
    sorted(bundles).map(([trustDomain, keys]) => entryField(jwtBundlesResponse.bundles, trustDomain, Buffer.from(keys, 'utf8'))),
  );
}

/** A JWTSVIDResponse. */
export function encodeJwtSvids(svids: readonly JwtSvid[]): Buffer {
  return Buffer.concat(
    svids.map(({ spiffeId, token, hint }) =>
      bytesField(
        jwtResponse.svids,
        textField(jwtSvid.spiffeId, spiffeId),
        textField(jwtSvid.svid, token),
        ...(hint === '' ? [] : [textField(jwtSvid.hint, hint)]),
      ),
    ),
  );
}

/** A ValidateJWTSVIDResponse. */
export function encodeValidated(spiffeId: string, claims: Readonly<Record<string, unknown>>): Buffer {
  return Buffer.concat([textField(validateResponse.spiffeId, spiffeId), bytesField(validateResponse.claims, encodeStruct(claims))]);
}

/** A JWTSVIDRequest. Throws INVALID_ARGUMENT for bytes that are none. */
export function decodeJwtRequest(bytes: Buffer): { readonly audiences: readonly string[]; readonly spiffeId: string } {
  const audiences: string[] = [];
  let spiffeId = '';
  readFields(bytes, (field, given) => {
    const text = field === jwtRequest.audience || field === jwtRequest.spiffeId ? textOf(given) : undefined;
    if (text === undefined) return;
    if (field === jwtRequest.audience) audiences.push(text);
    else spiffeId = text;
  });
  return { audiences, spiffeId };
}

/** A ValidateJWTSVIDRequest. Throws INVALID_ARGUMENT for bytes that are none. */
export function decodeValidateRequest(bytes: Buffer): { readonly audience: string; readonly token: string } {
  let [audience, token] = ['', ''];
  readFields(bytes, (field, given) => {
    if (field === validateRequest.audience) audience = textOf(given) ?? audience;
    else if (field === validateRequest.svid) token = textOf(given) ?? token;
  });
  return { audience, token };
}

function trustDomainIn(spiffeId: string): string {
  return spiffeId.slice(0, spiffeId.indexOf('/', 'spiffe://'.length));
}

/** By trust domain, so that equal states are equal bytes. */
function sorted<T>(bundles: ReadonlyMap<string, T>): (readonly [string, T])[] {
  return [...bundles].sort(([a], [b]) => (a < b ? -1 : 1));
}
