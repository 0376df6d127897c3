import { z } from 'zod';
import { day, duration, judged, name, path, pattern } from '../../config/fields.ts';
import { clusterProblem } from '../../identity/issuer-settings.ts';
import { pointerProblem } from '../../identity/json-pointer.ts';
import { jwsAlgorithms } from '../../identity/jws-algorithm.ts';
import { templateProblem } from '../../identity/path-template.ts';
import { clusterFields } from '../../kubernetes/settings.ts';
import { defaults } from './defaults.ts';

const algorithm = z.enum(jwsAlgorithms);

const issuer = z.strictObject({
  id: name().describe('Names the issuer in this file, in records and in logs. Never change it: bindings and records refer to it.'),
  issuer: z.string().min(1).max(2048).describe('The exact `iss` of its tokens.'),
  audiences: z
    .array(z.string().min(1).max(512))
    .min(1)
    .max(20)
    .prefault([...defaults.issuer.audiences])
    .describe("Which `aud` its tokens may have. `istio-ca` is accepted on Istio's service alone, every other one on all APIs."),
  jwks: z
    .string()
    .min(1)
    .max(4096)
    .regex(/^(?!http:)/, "must be a file or an https:// URL: keys over plain HTTP are anybody's keys")
    .meta({ format: 'path-or-url' })
    .optional()
    .describe('Its public keys: a JWKS file, or an https:// URL. Either this, `discovery` or `tokenReview`.'),
  discovery: z
    .string()
    .max(2048)
    .regex(/^https:\/\//, 'must be an https:// URL')
    .optional()
    .describe('The base URL of OpenID discovery; `/.well-known/openid-configuration` is appended. Either this, `jwks` or `tokenReview`.'),
  tokenReview: z
    .strictObject({
      ...clusterFields,
      cacheFor: duration({ min: 1000, max: 300_000 })
        .prefault(defaults.issuer.cacheFor)
        .describe('How long a yes is good: a pod that was deleted gets nothing new after that. At most `5m`.'),
    })
    .optional()
    .describe(
      'The API server of its Kubernetes cluster is asked about every new token, by TokenReview. Either this, `jwks` or `discovery`. `{}` in a pod of that cluster.',
    ),
  cluster: judged(clusterProblem)
    .optional()
    .describe(
      "What clients call its cluster in `clusterid` (Istio's ISTIO_META_CLUSTER_ID). Once any issuer has one, a `clusterid` that is none of them is refused.",
    ),
  pods: z
    .strictObject(clusterFields)
    .optional()
    .describe(
      'Where to ask which pods run on a node, for `policy.trustedNodeAccounts`: the API server of its Kubernetes cluster. With `tokenReview` it is asked anyway.',
    ),
  caFile: path().optional().describe("PEM file of the CAs that its HTTPS endpoint is verified against, instead of the system's."),
  tokenFile: path()
    .optional()
    .describe(
      'File of the bearer token sent with each request for keys, read again each time. A Kubernetes API server gives its keys to nobody else.',
    ),
  algorithms: z
    .array(algorithm)
    .min(1)
    .prefault([...defaults.issuer.algorithms])
    .describe('The signature algorithms accepted. There are no symmetric ones.'),
  path: judged(templateProblem)
    .prefault(defaults.issuer.path)
    .describe(
      'The path of the SPIFFE ID. `{/a/b}` is a JSON pointer into the claims and fills exactly one segment; `{*/a/b}` may fill several. A claim with any other character is refused.',
    ),
  instance: judged(pointerProblem)
    .optional()
    .describe(
      "JSON pointer to the claim that tells the bearers of one identity apart. Default: the pod's uid, if `path` is the default one.",
    ),
  allow: z
    .array(pattern())
    .max(1000)
    .prefault([])
    .describe(
      'Patterns over the SPIFFE path; a token is accepted only if one matches. `*` is a part of one segment, `**` anything. Required outside --dev.',
    ),
  deny: z.array(pattern()).max(1000).prefault([]).describe('Patterns over the SPIFFE path that are refused, whatever `allow` says.'),
});

const certificates = z.strictObject({
  id: name().describe('Names the source in this file, in records and in logs. Never change it: records refer to it.'),
  caFile: path().describe(
    'PEM file of the CA: its root, and the intermediates that clients are under. Read again when it changes. It is trusted for this alone, never by workloads.',
  ),
  path: judged(templateProblem).describe(
    'The path of the SPIFFE ID. `{/subject/CN}` fills one segment, from the claims of the certificate: `/subject/CN` (O, OU, C, L, ST, DC, serialNumber), `/dns`, `/uri`, `/serial` and `/spki`. A name that it has twice is none.',
  ),
  instance: judged(pointerProblem)
    .optional()
    .describe(
      "JSON pointer to the claim that tells the bearers of one identity apart. Default: what the client's `x-signet-instance` says.",
    ),
  allow: z
    .array(pattern())
    .max(1000)
    .prefault([])
    .describe('Patterns over the SPIFFE path; a certificate is accepted only if one matches. Required.'),
  deny: z.array(pattern()).max(1000).prefault([]).describe('Patterns over the SPIFFE path that are refused, whatever `allow` says.'),
});

/** Who is believed, and as whom. */
export const identity = z.strictObject({
  issuers: z.array(issuer).max(100).prefault([]).describe('Whose tokens are believed, and as whom. At least one outside --dev.'),
  certificates: z
    .array(certificates)
    .max(100)
    .prefault([])
    .describe("Whose client certificates are believed beside our own, and as whom: VMs, factories, an older PKI's."),
  maxTokenLifetime: duration({ min: 60_000, max: 366 * day })
    .prefault(defaults.identity.maxTokenLifetime)
    .describe('A token whose exp - iat is longer is refused.'),
  reauthenticateAfter: duration({ min: 60_000, max: 90 * day })
    .prefault(defaults.identity.reauthenticateAfter)
    .describe('How long after the last token a client certificate alone still renews.'),
});
