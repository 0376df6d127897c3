import { z } from 'zod';
import { address, name, path } from '../../config/fields.ts';
import { isSpiffeId, isTrustDomain } from '../../spiffe/id.ts';
import { files } from './files-schema.ts';

/**
 * The agent's configuration as zod sees it: strict at every level, as the server's is. `format` in the metadata says which
 * strings are paths.
 */
const workload = z.strictObject({
  name: name().describe('Names the workload in logs, metrics and the cache.'),
  tokenFile: path().describe("The workload's service-account token, read anew for each request."),
  socket: path().describe(
    'The unix socket that it is served on. Whoever can open it is this workload: its folder is the door, and must be its own. The folder is made if the one above it is there. At most 107 bytes, no symbolic link in it.',
  ),
  mode: z
    .enum(['0700', '0750'])
    .prefault('0700')
    .describe("The folder's mode: `0700` for processes of the agent's own user, `0750` for those of `group` too."),
  group: z
    .string()
    .regex(/^(?:\d{1,10}|[a-z_][a-z0-9_-]{0,31})$/, 'must be the name or the number of a group')
    .optional()
    .describe('The group that may enter, by name or number. Required with mode 0750.'),
  keyType: z.enum(['ec-p256', 'ec-p384']).prefault('ec-p256').describe('The kind of its keys; each certificate has a new one.'),
  spiffeId: z
    .string()
    .refine(isSpiffeId, 'must be a SPIFFE ID of the form spiffe://<trust domain>/<path>')
    .optional()
    .describe('The identity that its token must stand for. Default: whatever the first certificate says, from then on.'),
  files: files
    .optional()
    .describe('Also write certificate, key and bundle to files, for servers that are neither Envoy nor a SPIFFE library.'),
});

const serverTrust = z.strictObject({
  caFile: path()
    .optional()
    .describe("PEM file of the anchors of the servers' certificate: their `server-ca.pem`. Either this or `pinnedSpki`."),
  pinnedSpki: z
    .array(z.string().regex(/^[0-9a-fA-F]{64}$/, 'must be 64 hexadecimal digits: SHA-256 of a SubjectPublicKeyInfo'))
    .max(10)
    .prefault([])
    .describe(
      "Instead: hex SHA-256 of the control-plane root's public key (SubjectPublicKeyInfo). A server shows that root at the end of its chain, and it is checked before anything is said. Several while one is replaced.",
    ),
  name: z
    .string()
    .regex(
      /^(?:spiffe:\/\/[a-z0-9._-]{1,255}\/[A-Za-z0-9._/-]{1,1000}|[A-Za-z0-9.:-]{1,253})$/,
      'must be a SPIFFE ID, a DNS name or an IP address',
    )
    .optional()
    .describe(
      "The name that the servers' certificate must have. Default: `spiffe://<trustDomain>/signet/server`, which no workload can be given.",
    ),
});

export const agentConfigSchema = z.strictObject({
  trustDomain: z
    .string()
    .refine(isTrustDomain, 'a trust domain is 1 to 255 of a-z, 0-9, ".", "_" and "-"')
    .describe('The trust domain of the workloads, `spiffe://<this>/...`.'),
  servers: z
    .array(address())
    .min(1)
    .max(20)
    .describe("The servers' gRPC addresses. The first that answers is used; the others are for when it is away."),
  serverTrust: serverTrust.prefault({}).describe('What the servers are known by. Nothing is sent to anybody else.'),
  workloads: z.array(workload).min(1).max(1000).describe('Who is served, each on a socket of its own.'),
  renewByCertificate: z
    .boolean()
    .prefault(true)
    .describe(
      "Whether a workload whose token is missing or refused asks with its current certificate. How long that may stand for a token is the server's to say (`identity.reauthenticateAfter`).",
    ),
  cache: z
    .strictObject({
      folder: path()
        .optional()
        .describe(
          'Where keys and certificates are kept, sealed, so that a restarted agent serves while every server is away. Made (0700) if missing. Without it nothing is kept.',
        ),
      sealingKeyFile: path()
        .optional()
        .describe(
          'File of 32 random bytes in base64, outside the folder. Default: the environment variable SIGNET_SEALING_KEY, else the systemd credential `signet-sealing-key`. Without a key nothing is kept.',
        ),
    })
    .prefault({}),
  listen: z
    .strictObject({
      http: address()
        .optional()
        .describe('Where /metrics, /healthz and /readyz are served, without TLS: a loopback address. Default: nowhere.'),
    })
    .prefault({}),
  log: z
    .strictObject({
      level: z.enum(['debug', 'info', 'warn', 'error']).prefault('info').describe('The least that is logged, as JSON lines on stderr.'),
    })
    .prefault({}),
});

/** As parsed: paths absolute, everything with a default filled in. */
export type AgentConfig = z.output<typeof agentConfigSchema>;
export type WorkloadConfig = AgentConfig['workloads'][number];

let jsonSchema: z.core.JSONSchema.BaseSchema | undefined;

/** JSON Schema (2020-12) of the file, for editors and for the reference page. Not to be changed: it is made once. */
export function agentConfigJsonSchema(): z.core.JSONSchema.BaseSchema {
  jsonSchema ??= z.toJSONSchema(agentConfigSchema, { io: 'input' });
  return jsonSchema;
}
