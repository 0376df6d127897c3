import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { loopbackHttp } from './loopback-http.ts';
import type { LoopbackAnswer, LoopbackRequest } from './loopback-http.ts';

/** An error as AWS JSON 1.1 has it. */
export class FakeAwsError extends Error {
  readonly type: string;
  readonly status: number;
  constructor(type: string, message = type, status = 400) {
    super(message);
    this.type = type;
    this.status = status;
  }
}

/** By `x-amz-target`. */
export type FakeAwsActions = Readonly<Record<string, (body: Readonly<Record<string, unknown>>) => object | Promise<object>>>;

export interface FakeAws extends AsyncDisposable {
  readonly url: string;
  readonly outage: { stop(): Promise<void>; start(): Promise<void> };
  /** The `x-amz-target` of each call that was let in. */
  readonly calls: string[];
  /** Answered to every call while it is set. */
  fault: FakeAwsError | undefined;
  /** How long credentials from its metadata service live. */
  credentialLifeMs: number;
  /** How many credentials its metadata service has given. */
  readonly credentialsGiven: () => number;
  /** The environment in which AWS's own credential chain finds that metadata service; `wrong`: it gives secrets that the service doesn't know. */
  environment(options?: { readonly wrong?: boolean }): Readonly<Record<string, string>>;
  /** Ends all credentials that it has given. */
  revoke(): void;
  /** All that it has given as secrets. */
  readonly secrets: readonly string[];
}

interface KnownKey {
  readonly secret: string;
  readonly token: string;
  readonly endsAt: number;
}

/**
 * A fake of ours, not AWS: the JSON 1.1 protocol, SigV4 as published (verified, unlike by moto), and a container's
 * credentials endpoint. What the services do is given by `actions`.
 */
export async function fakeAws(actions: FakeAwsActions): Promise<FakeAws> {
  const keys = new Map<string, KnownKey>();
  const secrets: string[] = [];
  const calls: string[] = [];
  const authorization = randomBytes(16).toString('hex');
  let given = 0;

  const service = await loopbackHttp(async (request) => {
    try {
      checkSignature(request, keys);
      if (fake.fault) throw fake.fault;
      const target = String(request.headers['x-amz-target']);
      const action = actions[target];
      if (!action) throw new FakeAwsError('UnknownOperationException');
      calls.push(target);
      return { status: 200, body: await action(JSON.parse(request.body) as Readonly<Record<string, unknown>>) };
    } catch (error) {
      if (!(error instanceof FakeAwsError)) throw error;
      return { status: error.status, body: { __type: `com.amazonaws.fake#${error.type}`, message: error.message } };
    }
  });

  const metadata = await loopbackHttp((request): Promise<LoopbackAnswer> => {
    if (request.headers.authorization !== authorization) return Promise.resolve({ status: 401, body: {} });
    given++;
    const id = `AKIA${randomBytes(8).toString('hex').toUpperCase()}`;
    const known = {
      secret: randomBytes(20).toString('hex'),
      token: randomBytes(20).toString('hex'),
      endsAt: Date.now() + fake.credentialLifeMs,
    };
    secrets.push(known.secret, known.token);
    if (request.url.pathname === '/credentials') keys.set(id, known);
    const body = { AccessKeyId: id, SecretAccessKey: known.secret, Token: known.token, Expiration: new Date(known.endsAt).toISOString() };
    return Promise.resolve({ status: 200, body });
  });

  const fake: FakeAws = {
    url: service.url,
    outage: service,
    calls,
    fault: undefined,
    credentialLifeMs: 3_600_000,
    credentialsGiven: () => given,
    secrets,
    revoke() {
      keys.clear();
    },
    environment: ({ wrong = false } = {}) => ({
      AWS_CONTAINER_CREDENTIALS_FULL_URI: `${metadata.url}/${wrong ? 'wrong' : 'credentials'}`,
      AWS_CONTAINER_AUTHORIZATION_TOKEN: authorization,
    }),
    async [Symbol.asyncDispose]() {
      await service[Symbol.asyncDispose]();
      await metadata[Symbol.asyncDispose]();
    },
  };
  return fake;
}

/** Sets variables of this process while `work` runs: AWS's credential chain reads no other. */
export async function withEnvironment<T>(variables: Readonly<Record<string, string>>, work: () => Promise<T>): Promise<T> {
  const before = Object.keys(variables).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, variables);
  try {
    return await work();
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) Reflect.deleteProperty(process.env, name);
      else process.env[name] = value;
    }
  }
}

/** https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html, from the server's side. */
function checkSignature({ method, url, headers, body }: LoopbackRequest, keys: ReadonlyMap<string, KnownKey>): void {
  const match =
    /^AWS4-HMAC-SHA256 Credential=([A-Z0-9]+)\/(\d{8})\/([a-z0-9-]+)\/([a-z-]+)\/aws4_request, SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})$/.exec(
      headers.authorization ?? '',
    );
  const [, id = '', date = '', region = '', service = '', signed = '', signature = ''] = match ?? [];
  const key = keys.get(id);
  if (!key) throw new FakeAwsError('UnrecognizedClientException', 'The security token included in the request is invalid.');
  if (headers['x-amz-security-token'] !== key.token) throw new FakeAwsError('UnrecognizedClientException');
  if (Date.now() > key.endsAt) throw new FakeAwsError('ExpiredTokenException', 'The security token included in the request is expired');
  const names = signed.split(';');
  for (const name of ['host', 'x-amz-date', 'x-amz-security-token', 'x-amz-target'])
    if (!names.includes(name)) throw new FakeAwsError('InvalidSignatureException', `${name} is not signed`);
  const time = String(headers['x-amz-date']);
  const canonical = [
    method,
    url.pathname,
    '',
    ...names.map((name) => `${name}:${String(headers[name]).trim()}`),
    '',
    signed,
    createHash('sha256').update(body).digest('hex'),
  ].join('\n');
  const scope = `${date}/${region}/${service}/aws4_request`;
  const toSign = ['AWS4-HMAC-SHA256', time, scope, createHash('sha256').update(canonical).digest('hex')].join('\n');
  const hmac = (secret: string | Buffer, text: string): Buffer => createHmac('sha256', secret).update(text).digest();
  const signing = [region, service, 'aws4_request'].reduce(hmac, hmac(`AWS4${key.secret}`, date));
  if (!timingSafeEqual(hmac(signing, toSign), Buffer.from(signature, 'hex')))
    throw new FakeAwsError('InvalidSignatureException', 'The request signature we calculated does not match the signature you provided.');
}
