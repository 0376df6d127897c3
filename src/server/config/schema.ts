import { z } from 'zod';
import { pointerProblem } from '../../identity/json-pointer.ts';
import { jwsAlgorithms } from '../../identity/jws-algorithm.ts';
import { templateProblem } from '../../identity/path-template.ts';
import { isTrustDomain } from '../../spiffe/id.ts';
import { clusterProblem } from '../../identity/issuer-settings.ts';
import { publishBundleSettings } from '../../kubernetes/publish-settings.ts';
import { clusterFields } from '../../kubernetes/settings.ts';
import { backend } from './backend-schema.ts';
import { defaults } from './defaults.ts';
import { policy } from './policy-schema.ts';
import { address, count, day, duration, issuerUrlProblem, judged, name, path, pattern } from '../../config/fields.ts';

/**
 * The configuration file as zod sees it: strict at every level, because a key that is silently ignored is a setting
 * that its author believes in. Durations are text in the file and milliseconds in `Config`; paths are absolute there.
 * `format` in the metadata drives load.ts: it says which strings are paths, and from where they are relative.
 */
const listen = z.strictObject({
  grpc: address().prefault(defaults.listen.grpc).describe('Where SDS, the CSR APIs and gRPC health are served, over TLS.'),
  http: address()
    .prefault(defaults.listen.http)
    .describe(
      'Where /metrics, /healthz and /readyz are served, and with `jwt.issuer` its OpenID documents, without TLS. Keep it on loopback or behind a network policy.',
    ),
  admin: path()
    .optional()
    .describe(
      'The unix socket of the admin API; its folder is the door and must be 0700. Default: admin.sock in the data folder. At most 107 bytes.',
    ),
  names: z
    .array(z.string().regex(/^[A-Za-z0-9.:*-]{1,253}$/, 'must be a DNS name or an IP address'))
    .max(100)
    .prefault([])
    .describe(
      'The DNS names and IP addresses in the serving certificate: under which clients reach this server. May be left out only if listen.grpc has a definite host.',
    ),
});

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

const keyEncryption = z.strictObject({
  keyFile: path().optional().describe('File of 32 random bytes in base64. Must not be in the data folder.'),
  keyEnvironment: z
    .string()
    .regex(/^[A-Z_][A-Z0-9_]{0,99}$/, 'must be the name of an environment variable')
    .optional()
    .describe('The environment variable that holds 32 random bytes in base64.'),
  passphraseFile: path().optional().describe('File of a passphrase; the key is made from it by scrypt.'),
});

const ca = z.strictObject({
  backends: z
    .record(name(), backend)
    .prefault({ builtin: { type: 'builtin' } })
    .describe('The CAs that can sign, each under a name of yours.'),
  default: z
    .string()
    .optional()
    .describe('The backend that signs unless a policy rule says another. May be left out if there is only one.'),
  trustedRoots: z
    .array(path())
    .max(100)
    .prefault([])
    .describe('PEM files of further roots that workloads trust. Read again when they change, and pushed.'),
  distrustedAnchors: z
    .array(z.string().regex(/^[0-9a-f]{64}$/, 'must be the SHA-256 of a certificate in DER: 64 lower-case hex digits'))
    .max(1000)
    .prefault([])
    .describe('Roots that are never trusted, whichever backend names them, each as the SHA-256 of its DER. They leave the bundle at once.'),
  keyEncryption: keyEncryption
    .prefault({})
    .describe('What encrypts the CA keys in the store: exactly one of the three. Required outside --dev.'),
  signing: z
    .strictObject({
      concurrency: count(10_000)
        .prefault(defaults.signing.concurrency)
        .describe('Certificates in the making by one backend at the same time; at least 512 by one that signs in this process.'),
      queue: z
        .int()
        .min(0)
        .max(1_000_000)
        .prefault(defaults.signing.queue)
        .describe(
          'How many more may wait, a quarter of them of one identity; beyond that the answer is "overloaded", at once. They are served one of each identity in turn. Renewals for live streams wait in front and are not counted.',
        ),
      wait: duration({ max: 300_000 })
        .prefault(defaults.signing.wait)
        .describe('How long one may wait for its turn; after that the answer is "overloaded".'),
      timeout: duration({ max: 300_000 })
        .prefault(defaults.signing.timeout)
        .describe('How long a backend that signs elsewhere may take for one signature.'),
    })
    .prefault({}),
});

const jwt = z.strictObject({
  issuer: judged(issuerUrlProblem)
    .optional()
    .describe(
      'The https:// URL under which the world reaches the OpenID documents of the HTTP listener: the `iss` of every JWT-SVID. Without it none has an `iss`, and the documents are not served.',
    ),
  ttl: duration({ min: 1000, max: 3_600_000 })
    .prefault(defaults.jwt.ttl)
    .describe("The life of a JWT-SVID; never past the end of the caller's own credential. At most `1h`: there is no taking one back."),
  keyLife: duration({ min: 1000, max: 366 * day })
    .prefault(defaults.jwt.keyLife)
    .describe('How long one key signs. The next one is published at half of it. At least 12 times `refreshHint`, and twice `ttl`.'),
  refreshHint: duration({ min: 1000, max: day })
    .prefault(defaults.jwt.refreshHint)
    .describe('How often clients are told to ask for the keys. A new key is published six times as long before it signs.'),
});

const store = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('sqlite'),
    path: path().optional().describe('The database file. Default: in the data folder.'),
    retainExpired: duration({ max: 3650 * day })
      .prefault(defaults.store.retainExpired)
      .describe('How long records of ended certificates are kept.'),
  }),
]);

const limits = z.strictObject({
  maxStreamAge: duration({ min: 1000, max: 7 * day })
    .prefault(defaults.limits.maxStreamAge)
    .describe('An SDS stream is ended with OK at the latest at this age; Envoy reopens it at once.'),
  maxConnectionAge: duration({ min: 1000, max: 7 * day })
    .prefault(defaults.limits.maxConnectionAge)
    .describe('A connection is told to go away at this age ± 10 %, so that clients spread anew over replicas.'),
  streamsPerIdentity: count(1_000_000).prefault(defaults.limits.streamsPerIdentity).describe('Open SDS streams of one identity.'),
  streamsPerConnection: z
    .int()
    .min(100)
    .max(1_000_000)
    .prefault(defaults.limits.streamsPerConnection)
    .describe('HTTP/2 streams of one connection.'),
  issuancePerSecond: z
    .number()
    .min(0.01)
    .max(100_000)
    .prefault(defaults.limits.issuancePerSecond)
    .describe(
      'Certificates per second and identity, on average; as many JWT-SVIDs besides. Renewals for live streams may overdraw it by the burst.',
    ),
  issuanceBurst: count(1_000_000)
    .prefault(defaults.limits.issuanceBurst)
    .describe('Certificates that one identity may take at once; as many JWT-SVIDs besides.'),
  totalIssuancePerSecond: z
    .number()
    .min(0.01)
    .max(1_000_000)
    .prefault(defaults.limits.totalIssuancePerSecond)
    .describe('Likewise over all identities: what the CA and this machine can bear. Bound keys count as well.'),
  totalIssuanceBurst: count(10_000_000)
    .prefault(defaults.limits.totalIssuanceBurst)
    .describe('Certificates that all identities together may take at once.'),
  requestTimeout: duration({ max: 300_000 })
    .prefault(defaults.limits.requestTimeout)
    .describe('How long one request of the CSR APIs may take.'),
});

export const configSchema = z.strictObject({
  trustDomain: z
    .string()
    .refine(isTrustDomain, 'a trust domain is 1 to 255 of a-z, 0-9, ".", "_" and "-"')
    .describe('The trust domain, `spiffe://<this>/...`. The data folder belongs to it for ever. Required outside --dev.'),
  data: path().describe('The data folder (0700): database, sockets, and the certificates that clients pin. Required outside --dev.'),
  listen: listen.prefault({}),
  identity: z
    .strictObject({
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
    })
    .prefault({}),
  ca: ca.prefault({}),
  policy: policy.prefault({}),
  jwt: jwt.prefault({}).describe('JWT-SVIDs: tokens by which a workload shows its identity where there is no mutual TLS.'),
  kubernetes: z
    .strictObject({
      publishBundle: publishBundleSettings
        .optional()
        .describe('Publishes the trust bundle into a cluster, and keeps it as it should be there.'),
    })
    .prefault({}),
  store: store.prefault({ type: 'sqlite' }),
  log: z
    .strictObject({
      level: z
        .enum(['debug', 'info', 'warn', 'error'])
        .prefault(defaults.log.level)
        .describe('The least that is logged, as JSON lines on stderr.'),
    })
    .prefault({}),
  limits: limits.prefault({}),
});

export type ConfigInput = z.input<typeof configSchema>;
/** As parsed and completed: durations in ms, paths absolute, everything with a default filled in. */
export type Config = z.output<typeof configSchema> & {
  readonly listen: { readonly admin: string };
  readonly ca: { readonly default: string };
};
export type IssuerConfig = Config['identity']['issuers'][number];
export type BackendConfig = Config['ca']['backends'][string];

let jsonSchema: z.core.JSONSchema.BaseSchema | undefined;

/** JSON Schema (2020-12) of the file, for editors and for the reference page. Not to be changed: it is made once. */
export function configJsonSchema(): z.core.JSONSchema.BaseSchema {
  jsonSchema ??= z.toJSONSchema(configSchema, { io: 'input' });
  return jsonSchema;
}
