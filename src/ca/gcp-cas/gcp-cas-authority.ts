import { z } from 'zod';
import type { Clock, Random } from '../../base/clock.ts';
import { deadlineSignal } from '../../base/deadline.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { certificatesFromPem } from '../../x509/pem.ts';
import type { Authority, SignedChain, SigningRequest } from '../authority.ts';
import { openGoogleClient } from '../google/google-client.ts';
import { createRemoteIssuers } from '../remote/remote-issuers.ts';
import { certificateCreation } from './certificate-request.ts';

export interface GcpCasAuthorityOptions {
  readonly name: string;
  /** Resource names. */
  readonly caPool: string;
  readonly certificateTemplate?: string | undefined;
  readonly credentialsFile?: string | undefined;
  readonly endpoint?: string | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** How often the pool's CA certificates are looked at. */
  readonly refreshMs?: number;
}

const refreshMs = 60_000;
const pemText = z.string().max(64 * 1024);
const created = z.object({ pemCertificate: pemText });
const caCertificates = z.object({ caCerts: z.array(z.object({ certificates: z.array(pemText).max(10) })).max(100) });

/**
 * Google's Certificate Authority Service (https://cloud.google.com/certificate-authority-service/docs/reference/rest). A
 * pool may have several CAs, all of which are anchors from the moment that they are staged: before one signs. Throws
 * AUTHORITY_MISCONFIGURED or AUTHORITY_REFUSED if the service says so at the start; if it is away it is asked again.
 */
export async function openGcpCasAuthority(options: GcpCasAuthorityOptions): Promise<Authority> {
  const { name, caPool, certificateTemplate, credentialsFile, endpoint, clock, random, log } = options;
  const client = await openGoogleClient({
    service: "Google's Certificate Authority Service",
    publicEndpoint: 'https://privateca.googleapis.com',
    endpoint,
    resource: caPool,
    needed: `CA backend ${name}`,
    credentialsFile,
    clock,
    random,
    log,
  });
  const issuers = createRemoteIssuers({ name, read: readPool, everyMs: options.refreshMs ?? refreshMs, clock, random, log });

  async function readPool(signal: AbortSignal): Promise<Buffer[][]> {
    const call = { method: 'POST', path: `${caPool}:fetchCaCerts`, body: {}, permission: 'privateca.caPools.get' } as const;
    return read(caCertificates, await client.call(call, signal)).caCerts.map(({ certificates }) => certificates.flatMap(pem));
  }

  async function sign(request: SigningRequest, signal: AbortSignal): Promise<SignedChain> {
    if (signal.aborted) throw SignetError.from(signal.reason);
    const bounded = { ...request, notAfter: Math.min(request.notAfter, issuers.endsAt()) };
    const { query, body } = certificateCreation(bounded, clock.now(), certificateTemplate);
    const call = { method: 'POST', path: `${caPool}/certificates`, query, body, permission: 'privateca.certificates.create' } as const;
    const [leaf, second] = pem(read(created, await client.call(call, signal)).pemCertificate);
    if (!leaf || second) throw new SignetError('AUTHORITY_MISBEHAVED', `${name} did not return exactly one certificate`);
    return issuers.complete(leaf, signal);
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
    type: 'gcp-cas',
    // It dates certificates itself, from when it signs.
    capabilities: { builtHere: false, exactLife: false },
    sign,
    anchors: issuers.anchors,
    issuersEnd: issuers.endsAt,
    health: issuers.health,
    onChange: issuers.onChange,
    close,
  };
}
