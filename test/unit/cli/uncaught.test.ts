import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { tempFolder } from '../../support/temp.ts';

test('what nobody foresaw ends the process with 1 and one JSON line, without the secret that was in it', async () => {
  await using folder = await tempFolder();
  const secret = `eyJhbGciOiJFUzI1NiJ9.${'c2VjcmV0'.repeat(8)}.c2ln`;
  const fault = `data:text/javascript,setTimeout(() => { throw new Error('held ${secret}'); }, 400)`;
  const args = [
    '--import',
    fault,
    'src/main.ts',
    'server',
    '--dev',
    '--data',
    folder.file('data'),
    '--grpc',
    '127.0.0.1:0',
    '--http',
    '127.0.0.1:0',
  ];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let text = '';
  child.stderr.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  const [code] = (await once(child, 'close', { signal: AbortSignal.timeout(30_000) })) as [number];
  assert.equal(code, 1);
  assert.match(text, /"internal error: the process ends"/);
  assert.match(text, /held \[token\]/);
  assert.ok(!text.includes(secret));
});
