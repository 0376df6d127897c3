import { z } from 'zod';

/** What a plugin may say, beyond what protobuf checks. Fields that aren't here are ignored: they are of a later version. */
export const largestMessage = 1024 * 1024;
const largestCertificate = 32 * 1024;
/** 9999-12-31T23:59:59Z (RFC 5280 §4.1.2.5). */
const lastSecond = 253_402_300_799;

const certificate = z.instanceof(Buffer).refine((der) => der.length > 0 && der.length <= largestCertificate, {
  error: `must have 1 to ${String(largestCertificate)} bytes`,
});
const seconds = z.int().min(1).max(lastSecond);

export const handshakeResponse = z.object({
  revision: z.int().min(1),
  pluginName: z.string().max(100),
  pluginVersion: z.string().max(100),
  capabilities: z.object({ exactLife: z.boolean(), signIntermediate: z.boolean() }).nullish(),
});

/** A leaf or an intermediate, and what is above it. */
export const chainResponse = z.object({
  chain: z.tuple([certificate], certificate).refine((chain) => chain.length <= 10, 'has more than 10'),
});

export const trustMessage = z.object({ anchors: z.array(certificate).min(1).max(20), issuersEnd: seconds });

export const healthResponse = z.object({ canSign: z.boolean(), detail: z.string().max(2000) });

export type TrustMessage = z.output<typeof trustMessage>;
