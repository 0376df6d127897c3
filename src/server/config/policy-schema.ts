import { z } from 'zod';
import { day, duration, judged, name, pattern } from '../../config/fields.ts';
import { keyDirectoryProblem } from '../../policy/key-directory.ts';
import { pathProblem } from '../../spiffe/id.ts';
import { defaults } from './defaults.ts';

const keyMode = z.enum(['server', 'csr', 'agent']);
const keyDirectories = () => z.array(judged(keyDirectoryProblem)).max(100);
const keyMaxAge = () => duration({ min: 1000, max: 3650 * day });

/** Who may have what: the section `policy`. */
export const policy = z.strictObject({
  tiers: z
    .record(name(), duration({ min: 1000, max: 90 * day }))
    .prefault({ ...defaults.tiers })
    .describe(
      'Longest life of a certificate, by name; yours are added to the three. A longer one asked for is capped; the absolute maximum is 90d.',
    ),
  rules: z
    .array(
      z.strictObject({
        match: pattern().describe('A pattern over the SPIFFE path.'),
        tier: z.string().optional().describe('A name of `policy.tiers`. Default: that of `policy.defaults`.'),
        backend: z.string().optional().describe('A name of `ca.backends`. Default: `ca.default`.'),
        certSigners: z
          .array(z.string())
          .max(100)
          .optional()
          .describe("Further names of `ca.backends` that Istio's clients may pick by `CertSigner`. Default: none."),
      }),
    )
    .max(10_000)
    .prefault([])
    .describe('Tier and CA backend by identity; the first match wins.'),
  keyModes: z
    .array(
      z.strictObject({
        match: pattern().describe('A pattern over the SPIFFE path.'),
        mode: keyMode.describe(
          '`csr`: the workload holds its key and sends a CSR. `server`: this server makes it and streams it. `agent`: an agent on the node holds it.',
        ),
        keyDirectories: keyDirectories().optional().describe('As in `policy.defaults`, whose value holds if left out.'),
        keyMaxAge: keyMaxAge().optional().describe('Likewise.'),
      }),
    )
    .max(10_000)
    .prefault([])
    .describe('Who holds the private key, by identity; the first match wins. It is never inferred.'),
  downstream: z
    .array(
      z.strictObject({
        match: pattern().describe('A pattern over the SPIFFE path of the other Signet.'),
        maxTtl: duration({ min: 60_000, max: 3650 * day }).describe(
          'The longest life of its CA certificate; a longer one asked for is capped.',
        ),
        backend: z
          .string()
          .optional()
          .describe('A name of `ca.backends` that can certify CAs: `builtin` and `vault` can. Default: `ca.default`.'),
      }),
    )
    .max(1000)
    .prefault([])
    .describe(
      'Who may have a CA certificate and run a Signet of this trust domain below this one. It can then make any identity of the trust domain. Nobody by default; the first match wins.',
    ),
  trustedNodeAccounts: z
    .array(judged(pathProblem))
    .max(100)
    .prefault([])
    .describe(
      "Whole SPIFFE paths (no patterns) of node proxies, such as /ns/istio-system/sa/ztunnel: they may ask for certificates of the pods that are proved to run on their node, on Istio's API. Nobody by default.",
    ),
  defaults: z
    .strictObject({
      tier: z.string().prefault(defaults.policy.tier).describe('A name of `policy.tiers`.'),
      keyMode: keyMode.prefault(defaults.policy.keyMode).describe('Who holds the private key.'),
      keyDirectories: keyDirectories()
        .prefault([...defaults.policy.keyDirectories])
        .describe("Folders on Envoy's host under which a bound key may be."),
      keyMaxAge: keyMaxAge().prefault(defaults.policy.keyMaxAge).describe('How long one key may be re-signed.'),
    })
    .prefault({})
    .describe('What holds where no rule matches.'),
});
