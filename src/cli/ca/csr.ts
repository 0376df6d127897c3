import type { Command } from 'commander';
import { deadlineSignal } from '../../base/deadline.ts';
import { caSubject } from '../../ca/ca-name.ts';
import type { SignerKeyKind } from '../../ca/signer.ts';
import type { TrustDomain } from '../../spiffe/id.ts';
import { trustDomainUri } from '../../spiffe/id.ts';
import { createCaCsr } from '../../x509/csr.ts';
import { pemEncode } from '../../x509/pem.ts';
import type { Session } from '../session.ts';
import { examples } from '../session.ts';
import { checkKeyPlace, createCaKey, keyPlaceOptions, openCaKey } from './key-place.ts';
import type { KeyPlaceOptions } from './key-place.ts';
import { ceremonyMs, keyKindOption, outFolder, outOption, refuseExisting, trustDomainOption, writeResult } from './output.ts';

interface CsrOptions extends KeyPlaceOptions {
  readonly trustDomain: TrustDomain;
  readonly key: SignerKeyKind;
  readonly out: string;
  readonly existingKey?: true;
}

export function defineCsr(command: Command, session: Session): void {
  command.description("an intermediate's key, made where it stays, and a request for its certificate").addOption(trustDomainOption());
  keyPlaceOptions(command).addOption(keyKindOption()).option('--existing-key', 'ask anew for the key that is there, instead of making one');
  outOption(command, 'the folder for intermediate.csr; made if missing').addHelpText(
    'after',
    `
The request asks for a CA of path length 0 that names its trust domain (SPIFFE X509-SVID 4.2). It is no secret: carry it to
where the root's key is, have it signed there, and give what comes back to \`signet ca import\`.`,
  );
  examples(command, [
    [
      'signet ca csr --trust-domain example.org --signer pkcs11 --with module=/usr/lib/softhsm/libsofthsm2.so tokenLabel=signet keyLabel=issuing pinFile=/etc/signet/pin --out /etc/signet/ca',
      'for a key in an HSM',
    ],
    [
      'signet ca csr --trust-domain example.org --key-file issuing.key --passphrase-file passphrase --existing-key --out .',
      'the same key for some more years',
    ],
  ]);
  command.action(async (options: CsrOptions) => {
    checkKeyPlace(command, options);
    await csr(options, session);
  });
}

async function csr(options: CsrOptions, session: Session): Promise<void> {
  const { trustDomain } = options;
  const { terminal, clock } = session;
  const signal = deadlineSignal(ceremonyMs, terminal.interrupted());
  const file = (await outFolder(options.out))('intermediate.csr');
  await refuseExisting(file);
  await using key = options.existingKey
    ? await openCaKey(options, session, signal)
    : await createCaKey(options, options.key, session, signal);
  const subject = caSubject('intermediate', trustDomain, clock.now());
  const request = await createCaCsr({ spki: key.spki, signer: key.signer, ...subject, uri: trustDomainUri(trustDomain) }, signal);
  await writeResult(file, pemEncode('CERTIFICATE REQUEST', request));
  terminal.err(
    `request: ${file}\nkey: ${key.location}\nNext: have it signed by the root, then run \`signet ca import\` with the same --signer or --key-file.\n`,
  );
}
