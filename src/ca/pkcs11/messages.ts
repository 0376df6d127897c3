import { z } from 'zod';
import type { ErrorCode } from '../../base/errors.ts';
import type { SignerKeyKind } from '../signer.ts';
import type { Pkcs11Settings } from './settings.ts';

/** What the process of the token is asked, one `open` or `create` first and for all of its life. */
export type TokenRequest =
  | { readonly op: 'open'; readonly settings: Pkcs11Settings; readonly pin: string }
  | { readonly op: 'create'; readonly settings: Pkcs11Settings; readonly pin: string; readonly kind: SignerKeyKind }
  | { readonly op: 'sign'; readonly data: Uint8Array }
  | { readonly op: 'check' };

export type Numbered<T> = T & { readonly id: number };

const bytes = z.instanceof(Uint8Array).refine((value) => value.length <= 4096);

export const opened = z.strictObject({ spki: bytes, extractable: z.boolean() });
export const created = z.strictObject({ keyId: z.string() });
export const signed = z.strictObject({ signature: bytes });
export const checked = z.strictObject({});

const codes = ['AUTHORITY_UNAVAILABLE', 'AUTHORITY_REFUSED', 'AUTHORITY_MISCONFIGURED', 'INTERNAL'] as const satisfies readonly ErrorCode[];

/** Whatever else a call may fail with is none of the token's. */
export type TokenErrorCode = (typeof codes)[number];

/** A vendor's code runs where this comes from. */
export const tokenAnswer = z.union([
  z.strictObject({ id: z.int(), value: z.unknown() }),
  z.strictObject({
    id: z.int(),
    error: z.strictObject({ code: z.enum(codes), message: z.string().max(2000), stale: z.boolean() }),
  }),
]);
export type TokenAnswer = z.input<typeof tokenAnswer>;

/** A code as it may be told. */
export function tokenErrorCode(code: ErrorCode): TokenErrorCode {
  return codes.find((one) => one === code) ?? 'INTERNAL';
}
