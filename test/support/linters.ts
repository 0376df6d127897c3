import { join } from 'node:path';
import { runProgram } from './process.ts';
import { cached, install, installPython } from './test-cache.ts';

/** Certificate linters, installed once into the cache of the tests. What can't be had is an error, never a skip. */
const zlintVersion = '3.6.1'; // 3.7 has a dependency that isn't to be had.
const pkilintVersion = '0.13.3';

export interface Finding {
  readonly severity: string;
  readonly code: string;
}

/** Runs zlint's RFC sources over a PEM file: the CA/Browser Forum's rules are for the web's CAs. Findings of `warn` and worse. */
export async function zlint(file: string): Promise<Finding[]> {
  const binary = join(await cached(`zlint-${zlintVersion}`, installZlint), 'zlint');
  const ran = await runProgram(binary, ['-includeSources', 'RFC5280,RFC5480', file]);
  if (ran.code !== 0) throw new Error(`zlint: ${ran.stderr}`);
  const results = JSON.parse(ran.stdout) as Record<string, { result: string }>;
  const passed = Object.values(results).filter(({ result }) => result === 'pass').length;
  if (passed < 20) throw new Error(`zlint ran only ${String(passed)} of its rules`);
  return Object.entries(results)
    .filter(([, { result }]) => ['warn', 'error', 'fatal'].includes(result))
    .map(([code, { result }]) => ({ severity: result, code }));
}

/** Runs pkilint over a PEM file, as an RFC 5280 certificate. Findings of WARNING and worse. */
export async function pkilint(file: string): Promise<Finding[]> {
  return pkilintRun('lint_pkix_cert', [file]);
}

/** Runs pkilint over a certificate and its issuer. */
export async function pkilintPair(issuerFile: string, file: string): Promise<Finding[]> {
  return pkilintRun('lint_pkix_signer_signee_cert_chain', [issuerFile, file]);
}

async function pkilintRun(program: string, files: readonly string[]): Promise<Finding[]> {
  const folder = await cached(`pkilint-${pkilintVersion}`, installPkilint);
  const ran = await runProgram(join(folder, 'bin', program), ['lint', '-s', 'WARNING', '-f', 'JSON', ...files]);
  const report = JSON.parse(ran.stdout || '{}') as { results?: readonly { finding_descriptions: readonly Finding[] }[] };
  // The exit code is the number of findings; without a report it's a failure of the linter.
  if (!report.results) throw new Error(`${program}: ${ran.stderr}`);
  return report.results.flatMap((result) => result.finding_descriptions.map(({ severity, code }) => ({ severity, code })));
}

async function installZlint(folder: string): Promise<void> {
  await install('go', ['install', `github.com/zmap/zlint/v3/cmd/zlint@v${zlintVersion}`], { GOBIN: folder });
}

async function installPkilint(folder: string): Promise<void> {
  await installPython(folder, `pkilint==${pkilintVersion}`);
}
