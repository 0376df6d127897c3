/** A CA whose key is in SoftHSM, before a real Envoy, while the token is away. */
import { writeFile } from 'node:fs/promises';
import { systemClock } from '../../src/base/clock.ts';
import { createSignerKey } from '../../src/ca/open-signer.ts';
import { pkcs11Settings } from '../../src/ca/pkcs11/settings.ts';
import { signRootCertificate } from '../../src/x509/ca-certificate.ts';
import { pemEncode } from '../../src/x509/pem.ts';
import { describeAuthorityAway } from '../support/authority-away-story.ts';
import { startSoftHsm } from '../support/engines/softhsm.ts';
import { silentLog } from '../support/silent-log.ts';
import { tempFolder } from '../support/temp.ts';

const never = new AbortController().signal;
const deviceRemoved = 0x32;

describeAuthorityAway('pkcs11', async () => {
  const hsm = await startSoftHsm();
  const folder = await tempFolder();
  const { module, tokenLabel, pinFile } = hsm;
  const settings = pkcs11Settings.parse({ type: 'pkcs11', module, tokenLabel, keyLabel: 'ca', pinFile });
  const parts = { setting: 'signer', clock: systemClock, log: silentLog, env: hsm.env };
  const { signer } = await createSignerKey(settings, 'ec-p256', parts, never);
  const now = Math.floor(Date.now() / 1000) * 1000;
  const dates = { notBefore: now - 3_600_000, notAfter: now + 100 * 86_400_000 };
  const root = await signRootCertificate({ spki: signer.spki, signer, commonName: 'HSM', organization: 'Test', ...dates }, never);
  await signer.close();
  await writeFile(folder.file('root.pem'), pemEncode('CERTIFICATE', root));
  const env = Object.fromEntries(Object.entries(hsm.env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])));
  return {
    settings: { type: 'files', root: folder.file('root.pem'), signer: settings },
    mesh: { env },
    stop: () => hsm.faults({ rv: deviceRemoved }),
    start: () => hsm.faults(undefined),
    async [Symbol.asyncDispose]() {
      await folder[Symbol.asyncDispose]();
      await hsm[Symbol.asyncDispose]();
    },
  };
});
