import { appendFile } from 'node:fs/promises';

/** What a suite saw of one backend: a line of the table in docs/reference/backends.md, which scripts/backends-table.ts makes. */
export type BackendFinding =
  | {
      readonly kind: 'conformance';
      readonly seam: 'authority' | 'signer';
      readonly backend: string;
      /** The engine and its version, or what stands in for it. */
      readonly engine: string;
      readonly cases: number;
      readonly passed: number;
      /** The faults that the harness could not make. */
      readonly notRun: readonly string[];
      /** Of one signature, in ms. */
      readonly p50: number;
      readonly p99: number;
    }
  | {
      readonly kind: 'away';
      readonly backend: string;
      /** Requests that failed while the CA was away for 40 % of a life. */
      readonly failedShort: number;
      /** From its return after two lives to the last request that failed, in ms. */
      readonly recoveredMs: number;
    }
  | {
      /** For an intermediate of ours, which signs on while the CA above it is away. */
      readonly kind: 'upstream-away';
      readonly backend: string;
      /** Requests that failed while that CA was away for two lives of a leaf. */
      readonly failed: number;
    };

/** Appends to the file that SIGNET_BACKENDS_REPORT names; without one nothing is kept. */
export async function reportBackend(finding: BackendFinding): Promise<void> {
  const file = process.env['SIGNET_BACKENDS_REPORT'];
  if (file !== undefined) await appendFile(file, `${JSON.stringify(finding)}\n`);
}
