import type { Clock, Random } from '../base/clock.ts';
import { formatDuration } from '../base/duration.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { BucketLimits } from '../base/token-bucket.ts';
import type { Authority, SignedChain, SigningRequest } from '../ca/authority.ts';
import { bearerKey } from '../identity/caller.ts';
import type { Bearer, Caller } from '../identity/caller.ts';
import type { Grant, Policy } from '../policy/policy.ts';
import type { Binding, IssuedRecord } from '../store/store.ts';
import { checkIssued } from '../x509/chain.ts';
import { createCsr, parseCsr } from '../x509/csr.ts';
import type { KeyPair } from '../x509/keys.ts';
import type { CheckedAnchors, CheckedChain } from '../x509/material.ts';
import { createBoundedSet } from './bounded-set.ts';
import { chooseLife } from './certificate-life.ts';
import { createRateLimiter } from './rate-limiter.ts';
import type { Recorder } from './recorder.ts';
import { checkRequestedNames } from './requested-names.ts';
import { withSigningDeadline } from './signing-deadline.ts';

/** `signed`: a CSR signed once. `server`: for a pair made here. `csr`: the bound key signed again. */
export type IssueRequest =
  | { readonly mode: 'signed'; readonly caller: Caller; readonly csr: Buffer | string; readonly requestedTtlMs?: number | undefined }
  | { readonly mode: 'server'; readonly caller: Caller; readonly key: KeyPair }
  | { readonly mode: 'csr'; readonly caller: Caller; readonly bound: Binding };

export interface Issued {
  readonly chain: CheckedChain;
  readonly record: IssuedRecord;
  /** The bundle handed out together with the chain, and its generation. */
  readonly anchors: CheckedAnchors;
  readonly generation: number;
  readonly notBefore: number;
  readonly notAfter: number;
}

export interface Issuer {
  /**
   * One certificate, recorded durably before this resolves. Throws a SignetError: PERMISSION_DENIED, IDENTITY_DENIED,
   * RATE_LIMITED, INVALID_CSR, TTL_TOO_LONG, INSTANCE_REQUIRED, OVERLOADED, CLOCK_BEHIND, the AUTHORITY_ ones, and more.
   */
  issue(request: IssueRequest, signal: AbortSignal): Promise<Issued>;
  /** Whether issuing can work at all; `detail` is for the operator. */
  readiness(): { readonly ready: boolean; readonly detail: string };
}

export interface IssuerLimits {
  /** Per identity, over all of its instances. */
  readonly rate: BucketLimits;
  /** How many identities' rates are remembered. */
  readonly rateEntries: number;
  /** Certificates in the making at one moment by each CA backend, so that one that hangs holds up no other; more are OVERLOADED. */
  readonly inFlight: number;
  readonly signTimeoutMs: number;
  /** How many bearers are remembered as issued to before, to spare the store a question. */
  readonly knownBearers: number;
}

export const defaultIssuerLimits: IssuerLimits = {
  rate: { perSecond: 200, burst: 2000 },
  rateEntries: 50_000,
  inFlight: 512,
  signTimeoutMs: 10_000,
  knownBearers: 100_000,
};

export interface IssuerDeps {
  readonly policy: Policy;
  readonly authorities: ReadonlyMap<string, Authority>;
  /** The trust bundle as it is now. */
  readonly anchors: () => { readonly generation: number; readonly anchors: CheckedAnchors };
  readonly recorder: Recorder;
  /** Whether this bearer has a record; the instance is empty for a caller without one. */
  readonly everIssued: (bearer: Bearer) => Promise<boolean>;
  /** The time of the newest issuance on record when the process started. */
  readonly newestIssuedAt: number | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly limits?: Partial<IssuerLimits>;
}

/** A clock further behind the newest issuance than this has gone wrong: what it made would not be valid yet, or end too late. */
export const longestBehindMs = 5 * 60_000;

/** What is to be certified, from wherever the key came. */
interface Subject {
  readonly spki: Buffer;
  readonly spkiSha256: string;
  readonly csr: () => Buffer;
}

/** The pipeline that every certificate goes through: authorize, validate, sign, verify, record. Nothing is shown before it is on record. */
export function createIssuer(deps: IssuerDeps): Issuer {
  const { policy, clock, recorder } = deps;
  const limits: IssuerLimits = { ...defaultIssuerLimits, ...deps.limits };
  const rate = createRateLimiter('certificates', limits.rate, limits.rateEntries);
  const known = createBoundedSet(limits.knownBearers);
  let newest = deps.newestIssuedAt ?? 0;
  const inFlight = new Map<string, number>();
  /** Whether the newest attempt to record one failed: what can't be recorded can't be issued. */
  let recordingFails = false;

  async function issue(request: IssueRequest, signal: AbortSignal): Promise<Issued> {
    const { caller } = request;
    const now = clock.now();
    if (newest - now > longestBehindMs) throw clockBehind(newest - now);
    const grant = policy.grant(caller);
    checkMode(request, grant);
    // Before the request is parsed: checking its signature is the dearest thing that a client can make us do.
    rate.take(caller.spiffeId, now);
    const making = inFlight.get(grant.authority) ?? 0;
    if (making >= limits.inFlight) throw new SignetError('OVERLOADED', 'too many certificates in the making', { retryAfterMs: 1000 });
    inFlight.set(grant.authority, making + 1);
    try {
      return await make(request, grant, subjectOf(request), now, signal);
    } finally {
      inFlight.set(grant.authority, (inFlight.get(grant.authority) ?? 1) - 1);
    }
  }

  async function make(request: IssueRequest, grant: Grant, subject: Subject, now: number, signal: AbortSignal): Promise<Issued> {
    const { caller } = request;
    const authority = deps.authorities.get(grant.authority);
    if (!authority) throw new SignetError('AUTHORITY_MISCONFIGURED', 'policy names a CA backend that is not configured');
    const bearer: Bearer = { spiffeId: caller.spiffeId, instance: caller.instance ?? '' };
    const bearerName = bearerKey(bearer);
    const first = !known.has(bearerName) && !(await deps.everIssued(bearer));
    const life = chooseLife({
      requestedMs: request.mode === 'signed' ? request.requestedTtlMs : undefined,
      tierMs: grant.maxTtlMs,
      first,
      now,
      issuersEnd: authority.issuersEnd(),
      keyEnds: request.mode === 'csr' ? request.bound.keyEnds : undefined,
      random: deps.random,
    });
    const signing: SigningRequest = {
      spiffeId: caller.spiffeId,
      spki: subject.spki,
      spkiSha256: subject.spkiSha256,
      csr: subject.csr,
      notBefore: life.notBefore,
      notAfter: life.notAfter,
    };
    // Signed in this process it is done in this turn of the loop; anybody else may hang.
    const signed = authority.capabilities.builtHere
      ? await authority.sign(signing, signal)
      : await withSigningDeadline(limits.signTimeoutMs, signal, (bounded) => authority.sign(signing, bounded));
    // The bundle as of now, not as of the request: it is what goes out together with the chain.
    const { anchors, generation } = deps.anchors();
    const chain = verify(authority, signing, signed, anchors);
    const record: IssuedRecord = {
      serial: chain.serial,
      spiffeId: caller.spiffeId,
      instance: bearer.instance,
      issuer: caller.issuer,
      authority: authority.name,
      issuerKeyId: signed.issuerKeyId,
      spkiSha256: chain.spkiSha256,
      notBefore: chain.notBefore,
      notAfter: chain.notAfter,
      issuedAt: clock.now(),
      trustGeneration: generation,
      authenticatedBy: caller.authenticatedBy,
      tokenSeenAt: caller.tokenSeenAt,
      keyMode: request.mode,
    };
    try {
      await recorder.issued(record);
      recordingFails = false;
    } catch (error) {
      recordingFails = true;
      throw error;
    }
    newest = Math.max(newest, record.issuedAt);
    known.add(bearerName);
    // Denied while it was being made: on record then, but never shown.
    policy.grant(caller);
    return { chain, record, anchors, generation, notBefore: chain.notBefore, notAfter: chain.notAfter };
  }

  function verify(authority: Authority, asked: SigningRequest, signed: SignedChain, anchors: CheckedAnchors): CheckedChain {
    try {
      return checkIssued({
        chain: signed.certificates,
        anchors: anchors.certificates,
        at: clock.now(),
        expected: { spkiSha256: asked.spkiSha256, spiffeId: asked.spiffeId, notAfter: asked.notAfter },
        signaturesTrusted: authority.capabilities.builtHere,
      });
    } catch (error) {
      deps.log.error(
        { authority: authority.name, spiffeId: asked.spiffeId, err: error },
        'what the CA returned is not what was asked for; it is not used',
      );
      throw error;
    }
  }

  return {
    issue,
    readiness() {
      const now = clock.now();
      if (newest - now > longestBehindMs) return { ready: false, detail: clockBehind(newest - now).message };
      if (recordingFails) return { ready: false, detail: 'the newest certificate could not be recorded: the store fails' };
      for (const authority of deps.authorities.values()) {
        if (authority.issuersEnd() <= now) return { ready: false, detail: `the CA certificate of backend ${authority.name} has ended` };
      }
      return { ready: true, detail: '' };
    },
  };
}

/** Renewals on a stream are judged by the mode that policy gives now, not by the one they began with. */
function checkMode(request: IssueRequest, grant: Grant): void {
  if (request.mode === 'signed') return;
  if (request.mode !== grant.keyMode)
    throw new SignetError('PERMISSION_DENIED', `policy gives this identity key mode ${grant.keyMode}, not ${request.mode}`);
  if (request.caller.instance === undefined) throw instanceRequired(request.caller);
}

export function instanceRequired(caller: Caller): SignetError {
  return new SignetError(
    'INSTANCE_REQUIRED',
    `issuer ${caller.issuer} names no instance for ${caller.spiffeId}: set "instance" of that issuer in the configuration to the claim that tells ` +
      'its bearers apart (/kubernetes.io/pod/uid in Kubernetes), or send x-signet-instance metadata',
  );
}

/** The key to certify, with proof of possession verified here, each time. Throws INVALID_CSR. */
function subjectOf(request: IssueRequest): Subject {
  const { caller } = request;
  if (request.mode === 'server') {
    const { key } = request;
    return { spki: key.spki, spkiSha256: key.spkiSha256, csr: () => createCsr(key, [caller.spiffeId]) };
  }
  const parsed = parseCsr(request.mode === 'csr' ? request.bound.csr : request.csr);
  checkRequestedNames(parsed, caller.spiffeId);
  if (request.mode === 'csr' && parsed.key.spkiSha256 !== request.bound.spkiSha256) {
    throw new SignetError('BINDING_CONFLICT', 'the binding on record does not fit its own request: bind the key again');
  }
  return { spki: parsed.key.spki, spkiSha256: parsed.key.spkiSha256, csr: () => parsed.der };
}

export function clockBehind(byMs: number): SignetError {
  return new SignetError(
    'CLOCK_BEHIND',
    `the clock is ${formatDuration(byMs)} behind the newest issuance on record: issuing has stopped until it is right`,
  );
}
