import { z } from 'zod';
import type { Clock, Random } from '../../base/clock.ts';
import { createDeadlineHeap, reached } from '../../base/deadline-heap.ts';
import { abortable, deadlineSignal } from '../../base/deadline.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { readSmallFile } from '../../base/small-file.ts';
import type { TrustDomain } from '../../spiffe/id.ts';
import { sha256Hex } from '../../x509/keys.ts';
import { certificatesFromPem, pemEncode } from '../../x509/pem.ts';
import type { Authority, SignedChain } from '../authority.ts';
import { createListeners } from '../listeners.ts';
import { issuerAnswer, readIssuer } from './issuer.ts';
import type { VaultIssuer } from './issuer.ts';
import { createVaultSession } from './session.ts';
import type { VaultSettings, VaultUpstreamSettings } from './settings.ts';
import { rootsOf, succeed } from './succession.ts';
import type { Succession } from './succession.ts';

export interface VaultAuthorityOptions {
  readonly name: string;
  readonly trustDomain: TrustDomain;
  /** Without a role it signs intermediates alone. */
  readonly settings: VaultSettings | VaultUpstreamSettings;
  readonly clock: Clock;
  readonly log: Log;
  readonly random?: Random;
}

const lookMs = 10_000;
const longestRootFile = 1024 * 1024;

const signed = z.object({ data: z.object({ certificate: z.string().max(64 * 1024) }) });

/**
 * A PKI engine of Vault or OpenBao. Leaves are signed by the issuer that is known here by its id, not by whatever is the
 * default at that moment: so a new root is in the trust bundle before anything chains to it. Vault being away is no error
 * here, it may come back; a credential that is refused or a mount that isn't there is: AUTHORITY_REFUSED,
 * AUTHORITY_MISCONFIGURED.
 */
export async function openVaultAuthority(options: VaultAuthorityOptions): Promise<Authority> {
  const { name, trustDomain, settings, clock, log, random = Math.random } = options;
  const { mount, issuer: reference, rootFile, settle, poll: pollMs, anchors, approvedAnchors, ...connection } = settings;
  const role = 'role' in settings ? settings.role : undefined;
  const label = `${name} (Vault at ${settings.address})`;
  const session = createVaultSession({ label, connection, clock, log, random });
  const listeners = createListeners(log);
  const closed = new AbortController();
  const heap = createDeadlineHeap(clock, (error) => {
    log.error({ err: error, authority: name }, 'a deadline of the CA backend failed');
  });
  const rules = {
    settleMs: settle,
    mayTrust: (root: Buffer) => anchors === 'follow' || approvedAnchors.includes(sha256Hex(root)),
  };
  let state: Succession | undefined;

  async function look(signal: AbortSignal): Promise<Succession> {
    const { data } = await session.call({ method: 'GET', path: `${mount}/issuer/${reference}` }, issuerAnswer, signal);
    const roots = rootFile === undefined ? undefined : await readRoots(label, rootFile, signal);
    return enter(succeed(state, readIssuer(label, data, roots), clock.now(), rules));
  }

  function enter(after: Succession): Succession {
    if (after === state) return after;
    const before = state;
    state = after;
    if (before) {
      const fields = { authority: name, signing: after.active.subject, next: after.next?.issuer.subject };
      log.info(fields, after.next ? 'the CA has a new root; it signs once that is known everywhere' : 'the CA signs by another issuer');
      listeners.notify();
    }
    return after;
  }

  async function keepLooking(): Promise<void> {
    let isLost = state === undefined;
    const isOver = (): boolean => closed.signal.aborted;
    for (;;) {
      await reached(heap, clock.now() + pollMs * (0.9 + random() * 0.2), closed.signal);
      if (isOver()) return;
      try {
        await look(deadlineSignal(lookMs, closed.signal));
        if (isLost) log.info({ authority: name }, `${label}: answers again`);
        isLost = false;
      } catch (error) {
        if (isOver()) return;
        if (!isLost) log.warn({ authority: name, err: error }, `${label}: its issuer can't be looked up; the last one known stays`);
        isLost = true;
      }
    }
  }

  /** Below the issuer that is known; one that Vault no longer has gives way to its successor. */
  async function signBelow(
    path: string,
    notAfter: number,
    body: Readonly<Record<string, unknown>>,
    signal: AbortSignal,
  ): Promise<{ readonly certificate: Buffer; readonly issuer: VaultIssuer }> {
    if (signal.aborted) throw SignetError.from(signal.reason);
    const { active, next } = state ?? (await look(signal));
    const end = Math.floor(Math.min(notAfter, active.end) / 1000) * 1000;
    if (end <= clock.now()) throw new SignetError('AUTHORITY_MISCONFIGURED', `${label}: its CA certificate ${active.subject} has ended`);
    // Seconds without a fraction: the form that Vault reads.
    const not_after = new Date(end).toISOString().replace('.000Z', 'Z');
    try {
      const request = {
        method: 'POST',
        path: `${mount}/issuer/${active.id}/${path}`,
        body: { ...body, not_after, format: 'pem' },
      } as const;
      const { data } = await session.call(request, signed, signal);
      return { certificate: firstOf(label, data.certificate), issuer: active };
    } catch (error) {
      if (!next || !rules.mayTrust(next.issuer.root) || !(error instanceof SignetError) || error.code !== 'AUTHORITY_MISCONFIGURED')
        throw error;
      enter({ active: next.issuer });
      throw new SignetError(
        'AUTHORITY_UNAVAILABLE',
        `${label}: its issuer ${active.subject} is gone; the next try is under its successor`,
        {
          cause: error,
        },
      );
    }
  }

  const authority: Authority = {
    name,
    type: 'vault',
    // The role says how far back a certificate begins.
    capabilities: { builtHere: false, exactLife: false },
    async sign({ csr, notAfter, spiffeId }, signal): Promise<SignedChain> {
      if (role === undefined) throw new SignetError('AUTHORITY_MISCONFIGURED', `${label}: it has no role to sign certificates by`);
      // The request may be a workload's own, with other names or none: the role's use_csr_sans is off, and the name is ours.
      const body = { csr: pemEncode('CERTIFICATE REQUEST', csr()), uri_sans: spiffeId, exclude_cn_from_sans: true };
      const { certificate, issuer } = await signBelow(`sign/${role}`, notAfter, body, signal);
      return { certificates: [certificate, ...issuer.intermediates], issuerKeyId: issuer.keyId };
    },
    async signIntermediate({ csr, commonName, notAfter }, signal) {
      // Nothing of the request but its key: what the certificate holds is said here.
      const body = {
        csr: pemEncode('CERTIFICATE REQUEST', csr),
        common_name: commonName,
        exclude_cn_from_sans: true,
        uri_sans: `spiffe://${trustDomain}`,
        max_path_length: 0,
        use_csr_values: false,
      };
      const { certificate, issuer } = await signBelow('sign-intermediate', notAfter, body, signal);
      return { certificates: [certificate, ...issuer.intermediates] };
    },
    async anchors(signal) {
      return rootsOf(state ?? (await look(signal)));
    },
    issuersEnd: () => state?.active.end ?? Infinity,
    async health(signal) {
      try {
        const { active } = await look(signal);
        const canSign = clock.now() < active.end;
        return {
          canSign,
          detail: `${active.subject} at ${mount}/ ${canSign ? 'is good until' : 'ended at'} ${new Date(active.end).toISOString()}`,
        };
      } catch (error) {
        return { canSign: false, detail: SignetError.from(error).message };
      }
    },
    onChange: listeners.add,
    async close() {
      closed.abort();
      heap.close();
      await session.close();
    },
  };

  try {
    await look(deadlineSignal(lookMs));
  } catch (thrown) {
    const error = SignetError.from(thrown);
    if (!['AUTHORITY_UNAVAILABLE', 'AUTHORITY_THROTTLED', 'DEADLINE_EXCEEDED'].includes(error.code)) {
      await authority.close();
      throw error;
    }
    log.warn({ authority: name, err: error }, `${label}: not there yet; it is asked again and again`);
  }
  keepLooking().catch((error: unknown) => {
    log.error({ authority: name, err: error }, `${label}: its issuer is no longer looked after`);
  });
  return authority;
}

function firstOf(label: string, text: string): Buffer {
  try {
    const [first] = certificatesFromPem(text);
    if (first) return first;
  } catch (error) {
    throw new SignetError('AUTHORITY_MISBEHAVED', `${label}: it answered with no certificate`, { cause: error });
  }
  throw new SignetError('AUTHORITY_MISBEHAVED', `${label}: it answered with no certificate`);
}

async function readRoots(label: string, file: string, signal: AbortSignal): Promise<readonly Buffer[]> {
  try {
    return certificatesFromPem((await abortable(readSmallFile(file, longestRootFile), signal)).toString('latin1'));
  } catch (error) {
    if (signal.aborted) throw SignetError.from(signal.reason);
    throw new SignetError('AUTHORITY_MISCONFIGURED', `${label}: rootFile ${file} can't be used`, { cause: error });
  }
}
