import { after, before, describe, it } from 'node:test';
import type { Authority } from '../../src/ca/authority.ts';
import { authorityCases } from '../../src/ca/conformance/authority-cases.ts';
import { signingRequest } from '../../src/ca/conformance/authority-under-test.ts';
import type { AuthorityFaults, OpenAuthority } from '../../src/ca/conformance/authority-under-test.ts';
import type { TrustDomain } from '../../src/spiffe/id.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { reportBackend } from './backend-report.ts';

export { signingRequest };

/** One CA of the suite; it can be closed and opened again. */
export interface AuthorityLocation {
  open(): Promise<Authority>;
  readonly faults?: Partial<AuthorityFaults>;
  dispose(): Promise<void>;
}

export interface AuthorityBackend {
  readonly name: string;
  /** The real engine behind it and its version, or what stands in for it. */
  readonly engine?: string;
  readonly trustDomain: TrustDomain;
  /** Certificates between leaf and root in what it returns; left out if that varies. */
  readonly intermediates?: number;
  /** In ms; 10 s if left out. */
  readonly shortestLifeMs?: number;
  make(): Promise<AuthorityLocation>;
}

const never = new AbortController().signal;
const measured = 100;

/** What every authority promises, whoever's CA is behind it: the same cases for all. A fault that the harness can't make is told, not skipped silently. */
export function authoritySuite(backend: AuthorityBackend): void {
  describe(`authority ${backend.name}`, () => {
    let location: AuthorityLocation;
    let held: OpenAuthority;
    let passed = 0;
    const notRun: string[] = [];

    before(async () => {
      location = await backend.make();
      const subject = {
        trustDomain: backend.trustDomain,
        intermediates: backend.intermediates,
        shortestLifeMs: backend.shortestLifeMs ?? 10_000,
        open: location.open,
        faults: location.faults ?? {},
      };
      held = { subject, authority: await location.open() };
    });
    after(async () => {
      await held.authority.close();
      await location.dispose();
    });

    it('signs a hundred, one after the other', async (t) => {
      const times: number[] = [];
      for (let i = 0; i < measured; i++) {
        const request = signingRequest(backend.trustDomain);
        const begun = performance.now();
        parseCertificate((await held.authority.sign(request, never)).certificates[0]);
        times.push(performance.now() - begun);
      }
      times.sort((a, b) => a - b);
      latency = { p50: times[measured / 2] ?? 0, p99: times[measured - 2] ?? 0 };
      t.diagnostic(`${backend.name}: a signature takes ${latency.p50.toFixed(2)} ms (p50), ${latency.p99.toFixed(2)} ms (p99)`);
    });
    let latency = { p50: 0, p99: 0 };

    for (const one of authorityCases) {
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
      const cases = authorityCases.length - notRun.length;
      const { name, engine = '' } = backend;
      await reportBackend({ kind: 'conformance', seam: 'authority', backend: name, engine, cases, passed, notRun, ...latency });
    });
  });
}
