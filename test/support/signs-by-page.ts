import assert from 'node:assert/strict';
import type { ConfigInput } from '../../src/server/config/schema.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { verifyChain } from '../../src/x509/chain.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { pageSettings } from './page-text.ts';
import { idOf, web, wholeServer } from './whole-server.ts';

interface Signed {
  readonly chain: readonly [Buffer, ...Buffer[]];
  readonly anchors: readonly Buffer[];
}

/**
 * A whole server by the configuration of a page, with these settings of its backend put in, signs for a workload; the chain
 * verifies up to what the server says is trusted.
 */
export async function signsByPage(page: string, settings: object): Promise<void> {
  const { ca, policy } = await pageSettings(page);
  const backends = Object.fromEntries(Object.entries(ca?.backends ?? {}).map(([name, backend]) => [name, { ...backend, ...settings }]));
  const config = { ca: { backends }, ...(policy ? { policy } : {}) } as Partial<ConfigInput>;
  await using whole = await wholeServer(config);
  const request = { csr: createCsr(generateKeyPair(), [idOf(web)]) };
  const signed = (await whole.doors.workload.call('SignCertificate', request, whole.folder.bearer(web))) as
    | Signed
    | { readonly details: string };
  assert.ok('chain' in signed, JSON.stringify(signed));
  verifyChain(signed.chain, signed.anchors, Date.now());
  assert.deepEqual(parseCertificate(signed.chain[0]).uris, [idOf(web)]);
}
