import { z } from 'zod';
import { isTrustDomain } from '../../spiffe/id.ts';
import { publishBundleSettings } from '../../kubernetes/publish-settings.ts';
import { backend } from './backend-schema.ts';
import { defaults } from './defaults.ts';
import { identity } from './identity-schema.ts';
import { policy } from './policy-schema.ts';
import { address, count, day, duration, issuerUrlProblem, judged, name, path } from '../../config/fields.ts';

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
  identity: identity.prefault({}),
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
