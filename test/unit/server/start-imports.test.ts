import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';

/** What every start of the server loads, one after the other, each with what it imports statically. */
const entries = ['main.ts', 'cli/program.ts', 'cli/server.ts', 'server/config/load.ts', 'server/start.ts'];

function loadedFrom(urls: readonly string[]): { readonly ours: ReadonlySet<string>; readonly packages: ReadonlySet<string> } {
  const ours = new Set<string>();
  const packages = new Set<string>();
  const open = [...urls];
  for (let url = open.pop(); url !== undefined; url = open.pop()) {
    if (ours.has(url)) continue;
    ours.add(url);
    // Types alone are gone when it runs; what is imported by a call is loaded by who needs it.
    for (const [, from = ''] of readFileSync(new URL(url), 'utf8').matchAll(/^(?:import|export) (?!type )(?:[^'"]*? from )?'([^']+)'/gm)) {
      if (from.startsWith('.')) open.push(new URL(from, url).href);
      else if (!from.startsWith('node:')) packages.add(/^(?:@[^/]+\/)?[^/]+/.exec(from)?.[0] ?? from);
    }
  }
  return { ours, packages };
}

describe('what a server loads at its start', () => {
  const { ours, packages } = loadedFrom(entries.map((entry) => new URL(`../../../src/${entry}`, import.meta.url).href));

  it('is seen by this test', () => {
    assert.ok(ours.size > 150, `only ${String(ours.size)} modules of ours`);
    for (const needed of ['@grpc/grpc-js', 'zod', 'pino']) assert.ok(packages.has(needed), needed);
  });

  it('is no HTTP client, no YAML parser, no minting of tokens and no backend of a CA', () => {
    for (const dear of ['undici', 'yaml', 'jose', 'node-forge']) assert.ok(!packages.has(dear), dear);
    const backends = [...ours].filter(
      (url) => /\/src\/ca\/.*-(?:authority|upstream|custodian)\.ts$/.test(url) && !url.endsWith('guarded-authority.ts'),
    );
    assert.deepEqual(backends, []);
  });
});
