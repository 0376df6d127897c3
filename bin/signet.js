#!/usr/bin/env node
// Plain JavaScript that old Nodes parse too: whoever has one is to read what is needed, not a syntax error.
import { existsSync } from 'fs';
import { sep } from 'path';
import { fileURLToPath } from 'url';

const needed = 24;

if (Number(process.versions.node.split('.')[0]) < needed) {
  console.error('signet needs Node.js ' + needed + ' or newer; this is ' + process.version + ' (' + process.execPath + ')');
  process.exit(2);
}

// A checkout has the sources, which Node runs as they are; it strips no types under node_modules, so there dist/ is run.
const here = fileURLToPath(import.meta.url);
const source = new URL('../src/main.ts', import.meta.url);
const built = new URL('../dist/main.js', import.meta.url);
const installed = here.split(sep).includes('node_modules');
import(!installed && existsSync(source) ? source.href : built.href);
