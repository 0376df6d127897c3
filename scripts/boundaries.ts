/**
 * Checks the one direction of imports. A checker that reads nothing passes everything, so this also asserts that it saw
 * the modules that exist.
 */
import { readdirSync } from 'node:fs';
import { cruise } from 'dependency-cruiser';
import extractTSConfig from 'dependency-cruiser/config-utl/extract-ts-config';
import { boundaryRules as rules } from './boundary-rules.ts';

const files = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
const { output } = await cruise(['src'], { ruleSet: { forbidden: rules.forbidden }, validate: true, ...rules.options }, undefined, {
  tsConfig: extractTSConfig('tsconfig.json'),
});
if (typeof output === 'string') throw new Error('expected a result object');
const seen = new Set(output.modules.map((module) => module.source));
const unseen = files.filter((name) => !seen.has(`src/${name}`));
if (files.length === 0 || unseen.length > 0) {
  console.error(
    `dependency-cruiser did not see ${String(unseen.length)} of ${String(files.length)} modules: ${unseen.slice(0, 5).join(', ')}`,
  );
  process.exit(1);
}
for (const violation of output.summary.violations) {
  console.error(`${violation.rule.name}: ${violation.from} -> ${violation.to}`);
}
console.log(`${String(files.length)} modules, ${String(output.summary.violations.length)} violations`);
process.exit(output.summary.violations.length === 0 ? 0 : 1);
