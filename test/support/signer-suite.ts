import { randomBytes } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { reportBackend } from './backend-report.ts';
import { signerCases } from '../../src/ca/conformance/signer-cases.ts';
import type { OpenSigner, SignerFaults } from '../../src/ca/conformance/signer-cases.ts';
import { signerKeyKinds } from '../../src/ca/signer.ts';
import type { Signer, SignerKeyKind } from '../../src/ca/signer.ts';

/** One key of the suite; it can be closed and opened again. */
export interface SignerLocation {
  open(): Promise<Signer>;
  readonly faults?: Partial<SignerFaults>;
  /** Credentials that no error may hold. */
  readonly secrets?: readonly string[];
  dispose(): Promise<void>;
}

export interface SignerBackend {
  readonly name: string;
  /** The real engine behind it and its version, or what stands in for it. */
  readonly engine?: string;
  /** All, unless given. */
  readonly kinds?: readonly SignerKeyKind[];
  /** A custodian with a new key of this kind, made as `signet ca init` makes it. */
  make(kind: SignerKeyKind): Promise<SignerLocation>;
}

const never = new AbortController().signal;
const measured = 100;

/** What every signer promises, whoever keeps the key: the same cases for all, for each kind of key. A fault that the harness can't make is told. */
export function signerSuite(backend: SignerBackend): void {
  for (const kind of backend.kinds ?? signerKeyKinds) {
    describe(`signer ${backend.name}, ${kind}`, () => {
      oneKind(backend, kind);
    });
  }
}

function oneKind(backend: SignerBackend, kind: SignerKeyKind): void {
  let location: SignerLocation;
  let held: OpenSigner;
  let passed = 0;
  let latency = { p50: 0, p99: 0 };
  const notRun: string[] = [];

  before(async () => {
    location = await backend.make(kind);
    const subject = { kind, open: () => location.open(), secrets: location.secrets ?? [], faults: location.faults ?? {} };
    held = { subject, signer: await location.open() };
  });
  after(async () => {
    await held.signer.close();
    await location.dispose();
  });

  it('signs a hundred, one after the other', async (t) => {
    const times: number[] = [];
    for (let i = 0; i < measured; i++) {
      const tbs = randomBytes(400);
      const begun = performance.now();
      await held.signer.sign(tbs, never);
      times.push(performance.now() - begun);
    }
    times.sort((a, b) => a - b);
    latency = { p50: times[measured / 2] ?? 0, p99: times[measured - 2] ?? 0 };
    t.diagnostic(`${backend.name}, ${kind}: a signature takes ${latency.p50.toFixed(2)} ms (p50), ${latency.p99.toFixed(2)} ms (p99)`);
  });

  for (const one of signerCases) {
    it(one.name, async (t) => {
      if (one.needs !== undefined && held.subject.faults[one.needs] === undefined) {
        notRun.push(one.needs);
        t.diagnostic(`not run: this harness can't make "${one.needs}" happen`);
        return;
      }
      await one.run(held);
      passed++;
    });
  }

  after(async () => {
    const cases = signerCases.length - notRun.length;
    const { name, engine = '' } = backend;
    await reportBackend({ kind: 'conformance', seam: 'signer', backend: `${name}, ${kind}`, engine, cases, passed, notRun, ...latency });
  });
}
