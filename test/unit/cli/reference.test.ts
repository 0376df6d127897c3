import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { it } from 'node:test';
import { cliReference, referencePage } from '../../../scripts/cli-reference.ts';

it('docs/reference/cli.md is what the program says (npx node scripts/cli-reference.ts writes it anew)', async () => {
  assert.equal(await readFile(referencePage, 'utf8'), await cliReference());
});
