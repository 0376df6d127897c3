import type { Random } from '../base/clock.ts';
import { formatDuration } from '../base/duration.ts';
import { SignetError } from '../base/errors.ts';
import { createTurns } from '../base/turns.ts';
import { createRecentMap } from '../base/recent-map.ts';
import type { SigningRequest } from '../ca/authority.ts';
import type { GuardedAuthority } from '../ca/resilience/guarded-authority.ts';
import { bearerKey } from '../identity/caller.ts';
import type { Bearer, Caller } from '../identity/caller.ts';
import { backendOf } from '../policy/policy.ts';
import type { Grant, Policy } from '../policy/policy.ts';
import type { Binding, IssuedRecord } from '../store/store.ts';
import { createCsr, parseCsr } from '../x509/csr.ts';
import type { KeyPair } from '../x509/keys.ts';
import type { CheckedAnchors, CheckedChain } from '../x509/material.ts';
import { chooseBackend } from './backend-route.ts';
import type { RouteWish } from './backend-route.ts';
import { chooseLife } from './certificate-life.ts';
import { createIssuedChain } from './issued-chain.ts';
import type { IssuedChainDeps } from './issued-chain.ts';
import type { IssuanceGate } from './issuance-gate.ts';
import type { Recorder } from './recorder.ts';
import { checkRequestedNames, nameRequired } from './requested-names.ts';
import { withSigningDeadline } from './signing-deadline.ts';

/**
 * `signed`: a CSR signed once. `server`: for a pair made here. `csr`: the bound key signed again. `renewal`: open streams
 * hold an earlier one, so that it goes before what newcomers ask for.
 */
export type IssueRequest =
  | {
      readonly mode: 'signed';
      readonly caller: Caller;
      readonly csr: Buffer | string;
      readonly requestedTtlMs?: number | undefined;
      /** A CA backend picked by name, where policy lets it be. */
      readonly backend?: string | undefined;
    }
  | ({ readonly mode: 'server'; readonly caller: Caller; readonly key: KeyPair } & Urgency)
  | ({ readonly mode: 'csr'; readonly caller: Caller; readonly bound: Binding } & Urgency);

interface Urgency {
  readonly renewal?: boolean;
  /** It should have been renewed a while ago. */
  readonly late?: boolean;
}

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
  readonly signTimeoutMs: number;
  /** How many bearers are remembered as issued to before, half of them for sure, to spare the store a question. */
  readonly knownBearers: number;
}

export const defaultIssuerLimits: IssuerLimits = {
  signTimeoutMs: 10_000,
  knownBearers: 200_000,
};

export interface IssuerDeps extends IssuedChainDeps {
  readonly policy: Policy;
  readonly authorities: ReadonlyMap<string, GuardedAuthority>;
  readonly recorder: Recorder;
  readonly gate: IssuanceGate;
  /** Whether this bearer has a record; the instance is empty for a caller without one. */
  readonly everIssued: (bearer: Bearer) => Promise<boolean>;
  /** The time of the newest issuance on record when the process started. */
  readonly newestIssuedAt: number | undefined;
  readonly random: Random;
  readonly limits?: Partial<IssuerLimits>;
}

/** A clock further behind the newest issuance than this has gone wrong: what it made would not be valid yet, or end too late. */
export const longestBehindMs = 5 * 60_000;

/** Some 4 ms of cryptography in one turn of the event loop, however large the burst. */
const begunPerTurn = 8;

/** What is to be certified, from wherever the key came. */
interface Subject {
  readonly spki: Buffer;
  readonly spkiSha256: string;
  readonly csr: () => Buffer;
  /** The CSR has the name that is certified. */
  readonly named: boolean;
}

/** The pipeline that every certificate goes through: authorize, validate, sign, verify, record. Nothing is shown before it is on record. */
export function createIssuer(deps: IssuerDeps): Issuer {
  const { policy, clock, recorder, gate } = deps;
  const limits: IssuerLimits = { ...defaultIssuerLimits, ...deps.limits };
  const issuedChain = createIssuedChain(deps);
  const known = createRecentMap<true>(limits.knownBearers);
  const turns = createTurns(begunPerTurn);
  let newest = deps.newestIssuedAt ?? 0;
  /** Whether the newest attempt to record one failed: what can't be recorded can't be issued. */
  let recordingFails = false;

  async function issue(request: IssueRequest, signal: AbortSignal): Promise<Issued> {
    const { caller } = request;
    const now = clock.now();
    if (newest - now > longestBehindMs) throw clockBehind(newest - now);
    const grant = policy.grant(caller);
    checkMode(request, grant);
    const first = backendOf(grant, request.mode === 'signed' ? request.backend : undefined);
    const renewal = isRenewal(request);
    const late = request.mode !== 'signed' && request.late === true;
    const tried = new Set<string>();
    const wish = { fallback: first === grant.authority, late, tried };
    // Before the rates: who is told at once that the CA is away has cost nothing.
    const chosen = chooseBackend(deps.authorities, first, wish);
    if (typeof chosen !== 'string') throw chosen;
    let backend: string = chosen;
    gate.charge(caller.spiffeId, now, renewal);
    for (;;) {
      try {
        return await placed(request, grant, backend, now, signal);
      } catch (error) {
        tried.add(backend);
        const other = signal.aborted || !isAway(error, late) ? undefined : otherBackend(backend, first, wish);
        if (other === undefined) throw error;
        backend = other;
      }
    }
  }

  /** Who signs instead, after a try of `failed` found it away: only once its circuit is open, or if this one is late already. */
  function otherBackend(failed: string, first: string, wish: RouteWish): string | undefined {
    if (!wish.late && !deps.authorities.get(failed)?.guard?.refusal()) return undefined;
    const other = chooseBackend(deps.authorities, first, wish);
    return typeof other === 'string' ? other : undefined;
  }

  async function placed(request: IssueRequest, grant: Grant, backend: string, now: number, signal: AbortSignal): Promise<Issued> {
    const { spiffeId } = request.caller;
    const renewal = isRenewal(request);
    const place = gate.enter(backend, spiffeId, renewal, signal);
    if (place) await place;
    try {
      // Only who has a place waits for a turn, so the gate bounds how many do, and is fair.
      const turn = turns.enter(renewal);
      if (turn) await turn;
      signal.throwIfAborted();
      return await make(request, grant, backend, subjectOf(request), place || turn ? clock.now() : now, signal);
    } finally {
      gate.leave(backend);
    }
  }

  async function make(
    request: IssueRequest,
    grant: Grant,
    backend: string,
    subject: Subject,
    now: number,
    signal: AbortSignal,
  ): Promise<Issued> {
    const { caller } = request;
    const authority = deps.authorities.get(backend);
    if (!authority) throw new SignetError('AUTHORITY_MISCONFIGURED', 'policy names a CA backend that is not configured');
    if (!subject.named && authority.capabilities.namesFromCsr === true) throw nameRequired(caller.spiffeId);
    const bearer: Bearer = { spiffeId: caller.spiffeId, instance: caller.instance ?? '' };
    const bearerName = bearerKey(bearer);
    const first = !known.get(bearerName) && !(await deps.everIssued(bearer));
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
    // Many may come back at once from elsewhere, and each is still to be verified.
    if (!authority.capabilities.builtHere) await turns.enter(isRenewal(request));
    const verdict = issuedChain(authority, signing, signed, signal);
    const chain = verdict instanceof Promise ? await verdict : verdict;
    // The bundle as of now, not as of the request: it is what goes out together with the chain.
    const { anchors, generation } = deps.anchors();
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
      const given = error instanceof SignetError && error.code === 'AUTHORITY_MISBEHAVED';
      // What can't be recorded because the CA gave it before says nothing of the store.
      if (given)
        deps.log.error({ authority: authority.name, spiffeId: caller.spiffeId, err: error }, 'the CA returned a certificate again');
      else recordingFails = true;
      throw error;
    }
    newest = Math.max(newest, record.issuedAt);
    known.set(bearerName, true);
    // Denied while it was being made: on record then, but never shown.
    policy.grant(caller);
    return { chain, record, anchors, generation, notBefore: chain.notBefore, notAfter: chain.notAfter };
  }

  return {
    issue,
    readiness() {
      const now = clock.now();
      if (newest - now > longestBehindMs) return { ready: false, detail: clockBehind(newest - now).message };
      if (recordingFails) return { ready: false, detail: 'the newest certificate could not be recorded: the store fails' };
      return { ready: true, detail: '' };
    },
  };
}

const isRenewal = (request: IssueRequest): boolean => request.mode !== 'signed' && request.renewal === true;

/** Whether another backend may be asked instead: nothing was wrong with what this one was asked. */
function isAway(error: unknown, late: boolean): boolean {
  if (!(error instanceof SignetError)) return false;
  return error.code === 'AUTHORITY_UNAVAILABLE' || (late && error.code === 'AUTHORITY_THROTTLED');
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
    return { spki: key.spki, spkiSha256: key.spkiSha256, csr: () => createCsr(key, [caller.spiffeId]), named: true };
  }
  const parsed = parseCsr(request.mode === 'csr' ? request.bound.csr : request.csr);
  checkRequestedNames(parsed, caller.spiffeId);
  if (request.mode === 'csr' && parsed.key.spkiSha256 !== request.bound.spkiSha256) {
    throw new SignetError('BINDING_CONFLICT', 'the binding on record does not fit its own request: bind the key again');
  }
  return { spki: parsed.key.spki, spkiSha256: parsed.key.spkiSha256, csr: () => parsed.der, named: parsed.uris.length > 0 };
}

export function clockBehind(byMs: number): SignetError {
  return new SignetError(
    'CLOCK_BEHIND',
    `the clock is ${formatDuration(byMs)} behind the newest issuance on record: issuing has stopped until it is right`,
  );
}
