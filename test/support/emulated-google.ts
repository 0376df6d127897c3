import { createPublicKey, randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { pemEncode } from '../../src/x509/pem.ts';
import { crc32c } from '../../src/ca/gcp-kms/crc32c.ts';
import { digestKeys } from './digest-signing.ts';
import type { CaKeyKind, DigestKey } from './digest-signing.ts';
import { issueEmulated, pemChain } from './emulated-issuing.ts';
import { testCa } from './forge.ts';
import { loopbackHttp } from './loopback-http.ts';
import type { LoopbackAnswer, LoopbackRequest } from './loopback-http.ts';
import { tempFolder } from './temp.ts';

/** An error as https://google.aip.dev/193 has it. */
export class EmulatedGoogleError extends Error {
  readonly status: number;
  readonly code: string;
  readonly details: readonly object[];
  constructor(status: number, code: string, message = code, details: readonly object[] = []) {
    super(message);
    this.status = status;
    this.code = code;
    this.details = details;
  }
}

export interface EmulatedGoogle extends AsyncDisposable {
  readonly url: string;
  readonly caPool: string;
  readonly keyRing: string;
  readonly outage: { stop(): Promise<void>; start(): Promise<void> };
  /** Answered to every call of CAS and KMS while it is set. */
  fault: EmulatedGoogleError | undefined;
  tokenLifeMs: number;
  readonly tokensGiven: () => number;
  readonly secrets: readonly string[];
  /** Ends all tokens that it has given. */
  revoke(): void;
  /** A workload identity federation's file; `wrong`: what it stands for is not let in. */
  credentialsFile(options?: { readonly wrong?: boolean }): Promise<string>;
  /** Certificates made: a request id that comes again makes none. */
  readonly made: () => number;
  /** Changes each signature or public key on its way to the client. */
  damage: boolean;
  makeKey(name: string, algorithm: string): Promise<string>;
  readonly disabled: Set<string>;
  /** A new CA under a new root: staged, so that it is an anchor before it signs; `only` is what happens to the old one. */
  addCa(options?: { readonly only?: boolean }): Promise<void>;
}

interface CertificateBody {
  readonly lifetime: string;
  readonly config: {
    readonly subjectConfig: {
      readonly subject: { readonly organization: string };
      readonly subjectAltName: { readonly uris: readonly string[] };
    };
    readonly x509Config: {
      readonly keyUsage: {
        readonly baseKeyUsage: { readonly digitalSignature?: boolean };
        readonly extendedKeyUsage: { readonly serverAuth?: boolean; readonly clientAuth?: boolean };
      };
    };
    readonly publicKey: { readonly format: string; readonly key: string };
  };
}

const kinds: Readonly<Record<string, CaKeyKind>> = {
  EC_SIGN_P256_SHA256: 'ec-p256',
  EC_SIGN_P384_SHA384: 'ec-p384',
  RSA_SIGN_PKCS1_3072_SHA256: 'rsa-3072',
  RSA_SIGN_PSS_3072_SHA256: 'rsa-3072',
};
const project = 'projects/test/locations/europe-west1';

/**
 * An emulation of ours, not Google: the token exchange of workload identity federation (RFC 8693), Certificate Authority
 * Service and Cloud KMS as their published REST references have them, with real keys and certificates.
 */
export async function emulatedGoogle(): Promise<EmulatedGoogle> {
  const folder = await tempFolder();
  const subjectToken = randomBytes(20).toString('hex');
  const tokens = new Map<string, number>();
  const secrets: string[] = [subjectToken];
  const caPool = `${project}/caPools/workloads`;
  const keyRing = `${project}/keyRings/signet`;
  const requests = new Map<string, object>();
  const certificateIds = new Set<string>();
  const keys = new Map<string, DigestKey & { readonly algorithm: string }>();
  const made = await digestKeys();
  let cas = [await testCa('Emulated Google 1', Date.now())];
  let generation = 1;
  let given = 0;

  const service = await loopbackHttp(async (request) => {
    try {
      authorize(request);
      if (emulation.fault) throw emulation.fault;
      return { status: 200, body: await route(request) };
    } catch (error) {
      if (!(error instanceof EmulatedGoogleError)) throw error;
      const { status, code, message, details } = error;
      return { status, body: { error: { code: status, message, status: code, details } } };
    }
  });

  const tokenService = await loopbackHttp((request): Promise<LoopbackAnswer> => {
    const form = new URLSearchParams(request.body);
    if (form.get('subject_token') !== subjectToken) return Promise.resolve({ status: 400, body: { error: 'invalid_grant' } });
    given++;
    const token = `ya29.${randomBytes(20).toString('hex')}`;
    tokens.set(token, Date.now() + emulation.tokenLifeMs);
    secrets.push(token);
    const body = {
      access_token: token,
      issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      token_type: 'Bearer',
      expires_in: Math.round(emulation.tokenLifeMs / 1000),
    };
    return Promise.resolve({ status: 200, body });
  });

  function authorize({ headers }: LoopbackRequest): void {
    const ends = tokens.get((headers.authorization ?? '').replace(/^Bearer /, ''));
    if (ends === undefined || Date.now() > ends)
      throw new EmulatedGoogleError(401, 'UNAUTHENTICATED', 'Request had invalid authentication credentials.');
  }

  async function route({ method, url, body }: LoopbackRequest): Promise<object> {
    const path = url.pathname.replace(/^\/v1\//, '');
    const call = `${method} ${path}`;
    const parsed = body === '' ? {} : (JSON.parse(body) as unknown);
    if (call === `POST ${caPool}:fetchCaCerts`) return { caCerts: cas.map((ca) => ({ certificates: pemChain(ca) })) };
    if (call === `POST ${caPool}/certificates`) return createCertificate(url.searchParams, parsed as CertificateBody);
    if (call === `POST ${keyRing}/cryptoKeys`)
      return createKey(url.searchParams.get('cryptoKeyId') ?? '', parsed as { versionTemplate: { algorithm: string } });
    const [, version, verb] = /^(projects\/.+\/cryptoKeyVersions\/\d+)(\/publicKey|:asymmetricSign)$/.exec(path) ?? [];
    if (version === undefined) throw new EmulatedGoogleError(404, 'NOT_FOUND', `${path} was not found`);
    return verb === '/publicKey'
      ? showKey(version)
      : signWith(version, parsed as { digest: Record<string, string>; digestCrc32c?: string });
  }

  async function createCertificate(query: URLSearchParams, { lifetime, config }: CertificateBody): Promise<object> {
    const requestId = query.get('requestId') ?? '';
    const before = requests.get(requestId);
    if (before) return before;
    const certificateId = query.get('certificateId') ?? '';
    if (!/^[a-zA-Z0-9_-]{1,63}$/.test(certificateId)) throw new EmulatedGoogleError(400, 'INVALID_ARGUMENT', 'certificate_id');
    if (certificateIds.has(certificateId)) throw new EmulatedGoogleError(409, 'ALREADY_EXISTS');
    const ca = cas.at(-1);
    if (!ca) throw new EmulatedGoogleError(400, 'FAILED_PRECONDITION', 'There are no enabled CAs in the CaPool.');
    const now = Math.floor(Date.now() / 1000) * 1000;
    // "the lifetime may be truncated if it would extend past the life of any certificate authority in the issuing chain"
    const notAfter = Math.min(now + Number.parseInt(lifetime, 10) * 1000, parseCertificate(ca.intermediate).notAfter);
    const { subjectConfig, x509Config, publicKey } = config;
    const { serverAuth, clientAuth } = x509Config.keyUsage.extendedKeyUsage;
    const der = await issueEmulated(ca, {
      spki: createPublicKey(Buffer.from(publicKey.key, 'base64').toString('utf8')).export({ type: 'spki', format: 'der' }),
      organization: subjectConfig.subject.organization,
      commonName: 'none',
      uris: subjectConfig.subjectAltName.uris,
      digitalSignature: x509Config.keyUsage.baseKeyUsage.digitalSignature === true,
      purposes: [...(serverAuth ? (['serverAuth'] as const) : []), ...(clientAuth ? (['clientAuth'] as const) : [])],
      notBefore: now,
      notAfter,
    });
    const answer = {
      name: `${caPool}/certificates/${certificateId}`,
      pemCertificate: pemEncode('CERTIFICATE', der),
      pemCertificateChain: pemChain(ca),
    };
    requests.set(requestId, answer);
    certificateIds.add(certificateId);
    return answer;
  }

  async function createKey(id: string, { versionTemplate }: { readonly versionTemplate: { readonly algorithm: string } }): Promise<object> {
    if (keys.has(`${keyRing}/cryptoKeys/${id}/cryptoKeyVersions/1`)) throw new EmulatedGoogleError(409, 'ALREADY_EXISTS');
    await emulation.makeKey(id, versionTemplate.algorithm);
    return { name: `${keyRing}/cryptoKeys/${id}` };
  }

  function usable(version: string): DigestKey & { readonly algorithm: string } {
    const key = keys.get(version);
    if (!key) throw new EmulatedGoogleError(404, 'NOT_FOUND', `${version} not found.`);
    if (emulation.disabled.has(version))
      throw new EmulatedGoogleError(400, 'FAILED_PRECONDITION', `${version} is not enabled, current state is: DISABLED.`);
    return key;
  }

  function showKey(version: string): object {
    const { publicKey, algorithm } = usable(version);
    const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString();
    return {
      pem,
      algorithm,
      pemCrc32c: String(crc32c(Buffer.from(pem)) + (emulation.damage ? 1 : 0)),
      name: version,
      protectionLevel: 'HSM',
    };
  }

  async function signWith(
    version: string,
    asked: { readonly digest: Readonly<Record<string, string>>; readonly digestCrc32c?: string },
  ): Promise<object> {
    const key = usable(version);
    const algorithm = key.algorithm === 'EC_SIGN_P384_SHA384' ? 'sha384' : 'sha256';
    const digest = Buffer.from(asked.digest[algorithm] ?? '', 'base64');
    if (digest.length !== (algorithm === 'sha384' ? 48 : 32))
      throw new EmulatedGoogleError(400, 'INVALID_ARGUMENT', 'the digest is of another algorithm');
    if (Number(asked.digestCrc32c) !== crc32c(digest))
      throw new EmulatedGoogleError(400, 'INVALID_ARGUMENT', 'the checksum does not match');
    const signature = await key.sign(digest, algorithm);
    const signatureCrc32c = String(crc32c(signature));
    if (emulation.damage) signature[10] = (signature[10] ?? 0) ^ 1;
    return { signature: signature.toString('base64'), signatureCrc32c, verifiedDigestCrc32c: true, name: version, protectionLevel: 'HSM' };
  }

  const emulation: EmulatedGoogle = {
    url: service.url,
    caPool,
    keyRing,
    outage: service,
    fault: undefined,
    tokenLifeMs: 3_600_000,
    tokensGiven: () => given,
    secrets,
    revoke() {
      tokens.clear();
    },
    async credentialsFile({ wrong = false } = {}) {
      const [token, file] = [folder.file(wrong ? 'wrong.token' : 'subject.token'), folder.file(wrong ? 'wrong.json' : 'credentials.json')];
      await writeFile(token, wrong ? 'of somebody else' : subjectToken);
      const configuration = {
        type: 'external_account',
        audience: '//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/test/providers/test',
        subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
        token_url: `${tokenService.url}/v1/token`,
        credential_source: { file: token },
      };
      await writeFile(file, JSON.stringify(configuration));
      return file;
    },
    made: () => certificateIds.size,
    damage: false,
    async makeKey(name, algorithm) {
      const kind = kinds[algorithm];
      if (!kind) throw new EmulatedGoogleError(400, 'INVALID_ARGUMENT', algorithm);
      const version = `${keyRing}/cryptoKeys/${name}/cryptoKeyVersions/1`;
      keys.set(version, { ...(await made.make(kind)), algorithm });
      return version;
    },
    disabled: new Set(),
    async addCa({ only = false } = {}) {
      const next = await testCa(`Emulated Google ${String(++generation)}`, Date.now());
      cas = only ? [next] : [...cas, next];
    },
    async [Symbol.asyncDispose]() {
      await service[Symbol.asyncDispose]();
      await tokenService[Symbol.asyncDispose]();
      await made[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
  return emulation;
}
