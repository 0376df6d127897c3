/**
 * Runs the named suites (folders of test/) with node:test, one suite after the other.
 * Finding no test file is a failure, and so is running none.
 */
import { spawn } from 'node:child_process';
import { existsSync, globSync } from 'node:fs';

const suites = process.argv.slice(2);
const files = suites.flatMap((suite) => {
  const found = inOrder(globSync(`test/${suite}/**/*.test.ts`));
  if (!existsSync(`test/${suite}`) || found.length === 0) {
    console.error(`no test files in test/${suite}`);
    process.exit(1);
  }
  return found;
});
if (files.length === 0) {
  console.error(
    'name the suites to run: unit, protocol, e2e, chaos, linters, conformance, istio, files, package, compose, backends, kubernetes',
  );
  process.exit(2);
}

// How many files at once: end-to-end tests judge what a user would see and get the machine to themselves; the long ones
// mostly wait.
const atOnce: Readonly<Record<string, number>> = { unit: 2, protocol: 2, chaos: 4, backends: 3, kubernetes: 2 };
const concurrency = Math.min(...suites.map((suite) => atOnce[suite] ?? 1));
const args = ['--test', `--test-concurrency=${String(concurrency)}`, '--test-timeout=900000', '--test-reporter=spec', ...files];
const child = spawn(process.execPath, args, { stdio: 'inherit' });
child.on('exit', (code) => {
  process.exit(code ?? 1);
});

/** By name, but the outages first: they take minutes, and would leave the machine idle at the end. */
function inOrder(found: readonly string[]): string[] {
  return found.toSorted((a, b) => Number(b.includes('away')) - Number(a.includes('away')) || (a < b ? -1 : 1));
}
