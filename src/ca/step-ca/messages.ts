import { z } from 'zod';

/** What is read of step-ca's answers (its API, version 1.0). Certificates are PEM, one each. */
const pem = z.string().max(65_536);

export const rootResponse = z.object({ ca: pem });
export const rootsResponse = z.object({ crts: z.array(pem).min(1).max(50) });
export const intermediatesResponse = z.object({ crts: z.array(pem).max(50) });
export const signResponse = z.object({ certChain: z.array(pem).min(1).max(10) });
export const provisionersResponse = z.object({
  provisioners: z.array(
    z.looseObject({ type: z.string(), name: z.string(), key: z.looseObject({ kid: z.string().optional() }).optional() }),
  ),
  nextCursor: z.string().optional(),
});
export const healthResponse = z.object({ status: z.string() });
