import { writeFile } from 'node:fs/promises';
import { systemClock } from '../../src/base/clock.ts';
import { createSignerKey } from '../../src/ca/open-signer.ts';
import { transitSettings } from '../../src/ca/vault-transit/settings.ts';
import { signRootCertificate } from '../../src/x509/ca-certificate.ts';
import { pemEncode } from '../../src/x509/pem.ts';
import { describeAuthorityAway } from '../support/authority-away-story.ts';
import type { AwayBackend } from '../support/authority-away-story.ts';
import { silentLog } from '../support/silent-log.ts';
import { vaultWorld } from '../support/vault-world.ts';

// OpenBao needs a second or two until it is unsealed and leads: of 20 s that would be a tenth.
const leafTtl = { text: '40s', ms: 40_000 };

describeAuthorityAway('transit', openTransit, { leafTtl });

/** A CA of files whose key is in Transit. */
async function openTransit(): Promise<AwayBackend> {
  const world = await vaultWorld();
  const { bao, folder } = world;
  await bao.api('POST', 'sys/mounts/transit', { type: 'transit' });
  const signer = {
    type: 'transit',
    address: bao.address,
    caFile: bao.caFile,
    login: { type: 'token', tokenFile: await world.put('token', bao.rootToken) },
    key: 'ca',
  };
  const never = new AbortController().signal;
  const parts = { setting: 'signer', clock: systemClock, log: silentLog, env: {} };
  const made = await createSignerKey(transitSettings.parse(signer), 'ec-p256', parts, never);
  const now = Math.floor(Date.now() / 1000) * 1000;
  const subject = { commonName: 'Kept in Transit', organization: 'Test', uri: 'spiffe://cluster.local' };
  const root = await signRootCertificate(
    { spki: made.signer.spki, signer: made.signer, ...subject, notBefore: now - 3_600_000, notAfter: now + 86_400_000 },
    never,
  );
  await made.signer.close();
  await writeFile(folder.file('root.pem'), pemEncode('CERTIFICATE', root));
  return {
    settings: { type: 'files', root: folder.file('root.pem'), signer },
    stop: () => bao.stop(),
    start: () => bao.start(),
    [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
  };
}
