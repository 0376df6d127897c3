/** Whoever reads, and whenever the agent is killed: certificate, key and bundle are of one generation. */
import assert from 'node:assert/strict';
import { X509Certificate, createPrivateKey } from 'node:crypto';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { describe, it } from 'node:test';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { endChild, keepTrack } from '../../support/process.ts';
import { seededRandom } from '../../support/seeded-random.ts';
import { tempFolder } from '../../support/temp.ts';

const writer = fileURLToPath(new URL('../../support/generation-writer.ts', import.meta.url));
const kills = 25;

/** Throws unless the three belong together. */
function serialOf(folder: string): string {
  const [certificate = '', key = '', bundle = ''] = ['tls.crt', 'tls.key', 'ca.crt'].map((name) =>
    readFileSync(join(folder, name), 'utf8'),
  );
  const leaf = new X509Certificate(certificate);
  assert.ok(leaf.checkPrivateKey(createPrivateKey(key)), 'the key is of another generation than the certificate');
  const [, intermediate = ''] = certificate.split(/(?<=-----END CERTIFICATE-----\n)/);
  assert.ok(new X509Certificate(intermediate).checkIssued(new X509Certificate(bundle)), 'the bundle is of another generation');
  return leaf.serialNumber;
}

async function started(folder: string) {
  const child = spawn(process.execPath, [writer, folder], { stdio: ['ignore', 'pipe', 'inherit'] });
  keepTrack(child);
  await once(child.stdout, 'data');
  return child;
}

describe('files that are being replaced', () => {
  it(`are a whole generation after each of ${kills} kill -9 at any moment`, async (t) => {
    await using temp = await tempFolder();
    const folder = temp.file('tls');
    const random = seededRandom(11);
    const serials = new Set<string>();
    let leftovers = 0;
    let first = true;
    for (let kill = 0; kill < kills; kill++) {
      const child = await started(folder);
      // The very first generation is not there yet when it starts: a kill must not leave a part of it either.
      await sleep(first ? 200 : random() * 80);
      first = false;
      await endChild(child, 'SIGKILL');
      serials.add(serialOf(folder));
      leftovers += readdirSync(folder).filter((name) => /^\.\.(gen|next)-/.test(name)).length - 1;
    }
    const last = await started(folder);
    await endChild(last, 'SIGKILL');
    t.diagnostic(
      `${kills} kills, ${serials.size} distinct certificates found after them, ${leftovers} leftovers beside the generation in force`,
    );
    assert.ok(serials.size > 3, 'they were killed while they wrote');
    assert.ok(leftovers > 0, 'some were killed in the middle');
  });

  it('are all there or none, when the first generation is cut off', async (t) => {
    let [none, whole] = [0, 0];
    const random = seededRandom(12);
    for (let kill = 0; kill < 10; kill++) {
      await using temp = await tempFolder();
      const child = await started(temp.file('tls'));
      await sleep(random() * 40);
      await endChild(child, 'SIGKILL');
      try {
        readlinkSync(join(temp.file('tls'), '..data'));
      } catch {
        none++;
        for (const name of ['tls.crt', 'tls.key', 'ca.crt'])
          assert.throws(() => readFileSync(join(temp.file('tls'), name)), { code: 'ENOENT' });
        continue;
      }
      serialOf(temp.file('tls'));
      whole++;
    }
    t.diagnostic(`${none} times nothing, ${whole} times all of it`);
  });

  it('are of one generation for a reader that looks up ..data once', async (t) => {
    await using temp = await tempFolder();
    const folder = temp.file('tls');
    const child = await started(folder);
    let [read, gone] = [0, 0];
    const serials = new Set<string>();
    const end = Date.now() + 2000;
    while (Date.now() < end) {
      await sleep(0);
      try {
        serials.add(serialOf(join(folder, readlinkSync(join(folder, '..data')))));
        read++;
      } catch (error) {
        // The writer of this test removes the old generation at once, unlike the agent.
        if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
        gone++;
      }
    }
    await endChild(child, 'SIGKILL');
    t.diagnostic(`${read} reads of ${serials.size} generations, ${gone} times removed meanwhile`);
    assert.ok(serials.size > 5);
  });
});
