import { setTimeout as sleep } from 'node:timers/promises';
import { abortable } from '../../base/deadline.ts';
import { SignetError } from '../../base/errors.ts';
import type { Authority } from '../../ca/authority.ts';
import { authorityCases } from '../../ca/conformance/authority-cases.ts';
import { signingRequest } from '../../ca/conformance/authority-under-test.ts';
import type { AuthorityCase, AuthorityFaults, AuthorityUnderTest, OpenAuthority } from '../../ca/conformance/authority-under-test.ts';
import { sha256Hex } from '../../x509/keys.ts';

export interface CaseResult {
  readonly name: string;
  readonly result: 'ok' | 'failed' | 'not run';
  /** What went wrong, with its causes, or what would be needed to run it. */
  readonly why?: string;
  readonly ms: number;
}

export interface Latency {
  readonly signatures: number;
  readonly p50: number;
  readonly p99: number;
}

export interface ConformanceOptions {
  readonly subject: AuthorityUnderTest;
  /** DER of the anchors that it may name; any, if left out. */
  readonly approved: readonly Buffer[] | undefined;
  /** How many are signed, one after the other, for the latency. */
  readonly signatures: number;
  /** Ends it between two cases, or within one. */
  readonly signal: AbortSignal;
  readonly told: (result: CaseResult) => void;
}

export interface ConformanceOutcome {
  readonly cases: readonly CaseResult[];
  /** Left out if it couldn't sign. */
  readonly latency: Latency | undefined;
  /** DER of what it names. */
  readonly anchors: readonly Buffer[];
}

/** One case waits a minute for a CA to come back; a plugin that hangs is not waited for. */
const longestCaseMs = 120_000;

const unmakeable: Readonly<Record<keyof AuthorityFaults, string>> = {
  outage: 'only a plugin that is started here (--command) can be taken away',
  openRefused: 'only its author can have its CA refuse a credential',
  openMisconfigured: 'only its author can take a role or template away from its CA',
  throttle: 'only its author can have its CA throttle',
  rotate: 'only its author can give its CA a new root',
  outliveCredential: "only its author knows how long its CA's credential lasts",
};

/** Runs every case that can be, in order, against an authority that it opens and closes. */
export async function runConformance(options: ConformanceOptions): Promise<ConformanceOutcome> {
  const { subject, approved, signal } = options;
  const cases: CaseResult[] = [];
  const never = new AbortController().signal;
  let named: Authority['anchors'] | undefined;
  async function open(): Promise<Authority> {
    const authority = await subject.open();
    named = authority.anchors;
    return approved ? pinned(authority, approved) : authority;
  }
  const held: OpenAuthority = { subject: { ...subject, open }, authority: await open() };

  async function one({ name, needs, run }: AuthorityCase): Promise<boolean> {
    if (needs !== undefined && subject.faults[needs] === undefined) return tell({ name, result: 'not run', why: unmakeable[needs], ms: 0 });
    const begun = performance.now();
    try {
      await limited(run(held), signal);
    } catch (error) {
      if (signal.aborted) throw error;
      return tell({ name, result: 'failed', why: causes(error).join(': '), ms: performance.now() - begun });
    }
    return tell({ name, result: 'ok', ms: performance.now() - begun });
  }
  function tell(result: CaseResult): boolean {
    cases.push(result);
    options.told(result);
    return result.result === 'ok';
  }

  let latency: Latency | undefined;
  let anchors: readonly Buffer[] = [];
  try {
    const answers = await one({
      name: 'answers Handshake and says what its leaves chain to',
      run: async () => {
        anchors = (await named?.(never)) ?? [];
      },
    });
    if (!answers) return { cases, latency, anchors };
    if (approved) await one(namesOnly(approved, anchors));
    for (const next of authorityCases) await one(next);
    latency = await measure(held.authority, options).catch(() => undefined);
  } finally {
    await held.authority.close();
  }
  return { cases, latency, anchors };
}

/** Trusts as Signet does with `anchors: pinned`. */
function pinned(authority: Authority, approved: readonly Buffer[]): Authority {
  return {
    ...authority,
    get capabilities() {
      return authority.capabilities;
    },
    anchors: async (signal) => (await authority.anchors(signal)).filter((der) => approved.some((one) => one.equals(der))),
  };
}

function namesOnly(approved: readonly Buffer[], anchors: readonly Buffer[]): AuthorityCase {
  return {
    name: 'names no root but those of --anchors',
    run() {
      const strange = anchors.filter((der) => !approved.some((one) => one.equals(der)));
      if (strange.length === 0) return Promise.resolve();
      const hashes = strange.map((der) => sha256Hex(der)).join(', ');
      return Promise.reject(new SignetError('INVALID_ARGUMENT', `these are not in the file, by SHA-256: ${hashes}`));
    },
  };
}

async function measure(authority: Authority, { subject, signatures, signal }: ConformanceOptions): Promise<Latency> {
  const times: number[] = [];
  for (let i = 0; i < signatures; i++) {
    const asked = signingRequest(subject.trustDomain);
    const begun = performance.now();
    await authority.sign(asked, signal);
    times.push(performance.now() - begun);
  }
  times.sort((a, b) => a - b);
  const at = (share: number): number => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0;
  return { signatures, p50: at(0.5), p99: at(0.99) };
}

async function limited(work: Promise<void>, signal: AbortSignal): Promise<void> {
  const done = new AbortController();
  const late = sleep(longestCaseMs, undefined, { signal: done.signal }).then(() => {
    throw new SignetError('DEADLINE_EXCEEDED', `it took longer than ${String(longestCaseMs / 1000)} s`);
  });
  late.catch(() => undefined);
  try {
    await abortable(Promise.race([work, late]), signal);
  } finally {
    done.abort();
  }
}

/** The author is at the terminal: what the plugin said, and what the library made of it, is for them. */
function causes(error: unknown): string[] {
  return error instanceof Error ? [error.message, ...causes(error.cause)] : [];
}
