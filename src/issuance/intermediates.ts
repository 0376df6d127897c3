import type { Clock } from '../base/clock.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Authority } from '../ca/authority.ts';
import { caSubject } from '../ca/ca-name.ts';
import type { Caller } from '../identity/caller.ts';
import type { Policy } from '../policy/policy.ts';
import type { TrustDomain } from '../spiffe/id.ts';
import type { IssuedRecord } from '../store/store.ts';
import { parseCsr } from '../x509/csr.ts';
import { checkIssuedIntermediate } from '../x509/issued-intermediate.ts';
import type { CheckedAnchors } from '../x509/material.ts';
import type { IssuanceGate } from './issuance-gate.ts';
import type { Recorder } from './recorder.ts';
import { withSigningDeadline } from './signing-deadline.ts';

export interface IntermediateWish {
  readonly caller: Caller;
  /** PKCS#10 in DER, by the intermediate's key. */
  readonly csr: Buffer;
  readonly requestedTtlMs?: number | undefined;
}

export interface SignedIntermediate {
  /** DER, the new CA certificate first, no root. */
  readonly chain: readonly Buffer[];
  readonly record: IssuedRecord;
  readonly generation: number;
}

export interface Intermediates {
  /**
   * A CA certificate for another Signet of this trust domain; on record and audited before this resolves. Throws
   * PERMISSION_DENIED, IDENTITY_DENIED, RATE_LIMITED, INVALID_CSR, or one of the AUTHORITY_ codes.
   */
  sign(wish: IntermediateWish, signal: AbortSignal): Promise<SignedIntermediate>;
}

export interface IntermediatesDeps {
  readonly trustDomain: TrustDomain;
  readonly policy: Pick<Policy, 'downstream'>;
  readonly authorities: ReadonlyMap<string, Authority>;
  readonly anchors: () => { readonly generation: number; readonly anchors: CheckedAnchors };
  readonly recorder: Recorder;
  readonly gate: IssuanceGate;
  /** Whether issuing can work at all, and if not, why. */
  readonly readiness: () => { readonly ready: boolean; readonly detail: string };
  readonly clock: Clock;
  readonly log: Log;
  readonly signTimeoutMs: number;
}

/** The same way as a leaf's: authorize, validate, sign, verify, record. What it makes is a CA, so nobody may have one unless policy names him. */
export function createIntermediates(deps: IntermediatesDeps): Intermediates {
  const { trustDomain, policy, clock, gate, recorder } = deps;
  const uri = `spiffe://${trustDomain}`;

  function keyOf(csr: Buffer): ReturnType<typeof parseCsr>['key'] {
    const { key, uris, otherNames } = parseCsr(csr);
    if (uris.length === 1 && uris[0] === uri && otherNames.length === 0) return key;
    throw new SignetError('INVALID_CSR', `the request of an intermediate CA must have exactly one name, ${uri}`);
  }

  return {
    async sign({ caller, csr, requestedTtlMs }, signal) {
      const now = clock.now();
      const grant = policy.downstream(caller);
      const { ready, detail } = deps.readiness();
      if (!ready) throw new SignetError('AUTHORITY_UNAVAILABLE', 'no CA certificate can be signed now', { cause: new Error(detail) });
      gate.charge(caller.spiffeId, now, false);
      const key = keyOf(csr);
      const authority = deps.authorities.get(grant.authority);
      const certify = authority?.signIntermediate?.bind(authority);
      if (!authority || !certify)
        throw new SignetError(
          'AUTHORITY_MISCONFIGURED',
          `the CA backend ${grant.authority} can't certify other CAs: name another in policy.downstream`,
        );
      const notAfter = wholeSeconds(now + Math.min(requestedTtlMs ?? grant.maxTtlMs, grant.maxTtlMs));
      const request = { csr, spkiSha256: key.spkiSha256, commonName: caSubject('downstream', trustDomain, now).commonName, notAfter };
      const turn = gate.enter(authority.name, caller.spiffeId, false, signal);
      if (turn) await turn;
      const { certificates } = await withSigningDeadline(deps.signTimeoutMs, signal, (bounded) => certify(request, bounded)).finally(() => {
        gate.leave(authority.name);
      });
      const { anchors, generation } = deps.anchors();
      const expected = { spkiSha256: key.spkiSha256, uri, notAfter, forLeavesOnly: true };
      const checked = checkIssuedIntermediate({ chain: certificates, anchors: anchors.certificates, at: clock.now(), expected });
      const { certificate, above } = checked;
      const record: IssuedRecord = {
        serial: certificate.serial,
        spiffeId: caller.spiffeId,
        instance: caller.instance ?? '',
        issuer: caller.issuer,
        authority: authority.name,
        issuerKeyId: certificate.authorityKeyId ?? '',
        spkiSha256: certificate.spkiSha256,
        notBefore: certificate.notBefore,
        notAfter: certificate.notAfter,
        issuedAt: clock.now(),
        trustGeneration: generation,
        authenticatedBy: caller.authenticatedBy,
        tokenSeenAt: caller.tokenSeenAt,
        keyMode: 'intermediate',
      };
      await recorder.issued(record);
      const ends = new Date(record.notAfter).toISOString();
      await recorder.audit({
        at: record.issuedAt,
        actor: caller.spiffeId,
        action: 'certificate.intermediate',
        subject: uri,
        detail: `serial ${record.serial} by ${authority.name}, until ${ends}`,
      });
      // Denied while it was being made: on record then, but never shown.
      policy.downstream(caller);
      deps.log.warn(
        { serial: record.serial, spiffeId: caller.spiffeId, authority: authority.name, ends },
        'CA certificate signed for another Signet',
      );
      return { chain: [certificate.der, ...above], record, generation };
    },
  };
}

function wholeSeconds(ms: number): number {
  return Math.floor(ms / 1000) * 1000;
}
