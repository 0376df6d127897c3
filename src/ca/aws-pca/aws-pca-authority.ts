import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { backoffMs } from '../../base/backoff.ts';
import type { Clock, Random } from '../../base/clock.ts';
import { abortable, deadlineSignal } from '../../base/deadline.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { certificatesFromPem } from '../../x509/pem.ts';
import type { Authority, SignedChain, SigningRequest } from '../authority.ts';
import { readArn } from '../aws/aws-arn.ts';
import { openAwsClient } from '../aws/aws-client.ts';
import { createRemoteIssuers } from '../remote/remote-issuers.ts';
import { issueRequest } from './issue-request.ts';

export interface AwsPcaAuthorityOptions {
  readonly name: string;
  /** ARN. */
  readonly certificateAuthority: string;
  readonly endpoint?: string | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** How often the CA's own certificate is looked at. */
  readonly refreshMs?: number;
}

const refreshMs = 60_000;
/** Issuing takes about a second; GetCertificate has a quota of its own, three times that of IssueCertificate. */
const poll = { baseMs: 200, maxMs: 2000 };
/** The CA has accepted the request; longer than this it never takes. */
const issuedWithinMs = 60_000;

const issued = z.object({ CertificateArn: z.string().min(1).max(300) });
const certificate = z.object({ Certificate: z.string().max(64 * 1024) });
const caCertificate = z.object({
  Certificate: z.string().max(64 * 1024),
  CertificateChain: z
    .string()
    .max(2 * 1024 * 1024)
    .nullish(),
});

/**
 * AWS Private CA: IssueCertificate, then GetCertificate until it is there
 * (https://docs.aws.amazon.com/privateca/latest/APIReference/). Throws AUTHORITY_MISCONFIGURED or AUTHORITY_REFUSED if the
 * CA says so at the start; if it is away it is asked again.
 */
export async function openAwsPcaAuthority(options: AwsPcaAuthorityOptions): Promise<Authority> {
  const { name, certificateAuthority, clock, random, log } = options;
  const client = await openAwsClient({
    service: 'acm-pca',
    place: readArn(certificateAuthority),
    resource: certificateAuthority,
    needed: `CA backend ${name}`,
    endpoint: options.endpoint,
    clock,
    random,
    log,
  });
  const issuers = createRemoteIssuers({ name, read: readCa, everyMs: options.refreshMs ?? refreshMs, clock, random, log });

  async function readCa(signal: AbortSignal): Promise<Buffer[][]> {
    const body = { CertificateAuthorityArn: certificateAuthority };
    const answer = read(caCertificate, await client.call('GetCertificateAuthorityCertificate', body, signal));
    return [[...pem(answer.Certificate), ...(answer.CertificateChain == null ? [] : pem(answer.CertificateChain))]];
  }

  async function sign(request: SigningRequest, signal: AbortSignal): Promise<SignedChain> {
    if (signal.aborted) throw SignetError.from(signal.reason);
    const signing = await issuers.signing(signal);
    const notAfter = Math.min(request.notAfter, issuers.endsAt());
    if (notAfter <= clock.now()) throw new SignetError('AUTHORITY_MISCONFIGURED', `the CA certificate of ${name} has ended`);
    const body = issueRequest(certificateAuthority, signing, request, notAfter);
    const { CertificateArn } = read(issued, await client.call('IssueCertificate', body, signal));
    return issuers.complete(await collect(CertificateArn, signal), signal);
  }

  /** The certificate is made and paid: a quota that is used up meanwhile is waited for. */
  async function collect(certificateArn: string, parent: AbortSignal): Promise<Buffer> {
    const signal = deadlineSignal(issuedWithinMs, parent);
    const body = { CertificateAuthorityArn: certificateAuthority, CertificateArn: certificateArn };
    for (let attempt = 0; ; attempt++) {
      await abortable(sleep(backoffMs(attempt, poll, random), undefined, { signal }), signal);
      try {
        const answer = read(certificate, await client.call('GetCertificate', body, signal, notYet));
        const [leaf, second] = pem(answer.Certificate);
        if (!leaf || second) throw new SignetError('AUTHORITY_MISBEHAVED', `${name} did not return exactly one certificate`);
        return leaf;
      } catch (error) {
        if (signal.aborted && !parent.aborted)
          throw new SignetError('AUTHORITY_UNAVAILABLE', `${name} accepted a request, but made no certificate within a minute`, {
            cause: error,
          });
        if (!(error instanceof NotYet) && !(error instanceof SignetError && error.code === 'AUTHORITY_THROTTLED')) throw error;
      }
    }
  }

  function pem(text: string): Buffer[] {
    try {
      return certificatesFromPem(text);
    } catch (error) {
      throw new SignetError('AUTHORITY_MISBEHAVED', `${name} returned something that is not a certificate`, { cause: error });
    }
  }

  function read<T>(schema: z.ZodType<T>, answer: unknown): T {
    const parsed = schema.safeParse(answer);
    if (!parsed.success) throw new SignetError('AUTHORITY_MISBEHAVED', `${name} returned something else than its API says`);
    return parsed.data;
  }

  async function close(): Promise<void> {
    issuers.close();
    await client.close();
  }

  try {
    await issuers.start(deadlineSignal(60_000));
  } catch (error) {
    await close();
    throw error;
  }
  return {
    name,
    type: 'aws-pca',
    capabilities: { builtHere: false, exactLife: true },
    sign,
    anchors: issuers.anchors,
    issuersEnd: issuers.endsAt,
    health: issuers.health,
    onChange: issuers.onChange,
    close,
  };
}

/** RequestInProgressException: the certificate is in the making. */
class NotYet extends Error {}

function notYet(name: string): Error | undefined {
  return name === 'RequestInProgressException' ? new NotYet() : undefined;
}
