/**
 * Makes the table of docs/reference/backends.md from a run of the suites:
 * SIGNET_BACKENDS_REPORT=/tmp/report npm run test:backends, the same with test:kubernetes, then this with that file.
 */
import { readFile, writeFile } from 'node:fs/promises';
import type { BackendFinding } from '../test/support/backend-report.ts';

const page = 'docs/reference/backends.md';
const mark = '<!-- made by scripts/backends-table.ts -->';

const [file] = process.argv.slice(2);
if (file === undefined) {
  console.error('usage: node scripts/backends-table.ts REPORT');
  process.exit(2);
}
const findings = (await readFile(file, 'utf8'))
  .split('\n')
  .filter(Boolean)
  .map((line) => JSON.parse(line) as BackendFinding);

function outageOf(backend: string): string {
  return findings
    .flatMap((one) => {
      if (one.kind === 'conformance') return [];
      // A backend of several rows has one story; what more than the backend can be away is told as `<backend>, <what>`.
      const [, what] = one.backend.split(', ');
      if (what === undefined ? !backend.startsWith(one.backend) : one.backend !== `${backend}, ${what}`) return [];
      const who = what === undefined ? '' : `${what} away: `;
      if (one.kind === 'upstream-away') return [`its upstream away: ${String(one.failed)} failed in two lives`];
      return [`${who}${String(one.failedShort)} failed in 40 % of a life; well ${(one.recoveredMs / 1000).toFixed(1)} s after two`];
    })
    .join('; ');
}

const ms = (value: number): string => (value < 10 ? value.toFixed(2) : value.toFixed(0));
const rows = findings
  .filter((finding) => finding.kind === 'conformance')
  .sort((a, b) => a.seam.localeCompare(b.seam) || a.backend.localeCompare(b.backend))
  .map(({ backend, seam, engine, cases, passed, notRun, p50, p99 }) => {
    const by = engine === '' ? 'this process' : engine;
    const left = notRun.length === 0 ? '' : ` (not run: ${notRun.join(', ')})`;
    return `| ${backend} | ${seam} | ${by} | ${String(passed)} of ${String(cases)}${left} | ${ms(p50)} | ${ms(p99)} | ${outageOf(backend)} |`;
  });

const [written = ''] = (await readFile(page, 'utf8')).split(mark);
const table = ['| Backend | Seam | Engine | Cases passed | p50, ms | p99, ms | An outage |', '|---|---|---|---|---|---|---|', ...rows].join(
  '\n',
);
await writeFile(page, `${written}${mark}\n\n${table}\n`);
