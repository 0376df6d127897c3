import type { Command } from 'commander';
import { Option } from 'commander';
import { deadlineSignal } from '../../base/deadline.ts';
import { caBackdateMs, caSubject, wholeSeconds, yearMs } from '../../ca/ca-name.ts';
import type { SignerKeyKind } from '../../ca/signer.ts';
import type { TrustDomain } from '../../spiffe/id.ts';
import { trustDomainUri } from '../../spiffe/id.ts';
import { signRootCertificate } from '../../x509/ca-certificate.ts';
import { pemEncode } from '../../x509/pem.ts';
import { durationArgument } from '../options.ts';
import type { Session } from '../session.ts';
import { examples } from '../session.ts';
import { isoTime } from '../times.ts';
import { checkKeyPlace, createCaKey, keyPlaceOptions, openCaKey } from './key-place.ts';
import type { KeyPlaceOptions } from './key-place.ts';
import { ceremonyMs, keyKindOption, outFolder, outOption, printBackend, refuseExisting, trustDomainOption, writeResult } from './output.ts';

interface InitOptions extends KeyPlaceOptions {
  readonly trustDomain: TrustDomain;
  readonly key: SignerKeyKind;
  readonly life: number;
  readonly out: string;
  readonly existingKey?: true;
}

export function defineInit(command: Command, session: Session): void {
  command
    .description('a new root: its key is made where it stays, its certificate is written to DIR/root.pem')
    .addOption(trustDomainOption());
  keyPlaceOptions(command)
    .addOption(keyKindOption())
    .addOption(
      new Option('--life <duration>', 'of the root')
        .argParser(durationArgument({ minMs: 3_600_000, maxMs: 100 * yearMs }))
        .default(10 * yearMs, '3650d'),
    )
    .option('--existing-key', 'use the key that is there, instead of making one');
  outOption(command, 'the folder for root.pem; made if missing').addHelpText(
    'after',
    `
The key is made by its keeper and can't be taken out of it; of a file only its passphrase makes a key. On stdout comes what
goes into the server's configuration. If the root's key is to be kept offline, run this on that machine and go on with
\`signet ca csr\` on the server's.`,
  );
  examples(command, [
    [
      'signet ca init --trust-domain example.org --signer pkcs11 --with module=/usr/lib/softhsm/libsofthsm2.so tokenLabel=signet keyLabel=root pinFile=/etc/signet/pin --out /etc/signet/ca',
      'a root whose key stays in an HSM',
    ],
    [
      'signet ca init --trust-domain example.org --key-file root.key --passphrase-file passphrase --key ec-p384 --out .',
      'an offline root, in an encrypted file',
    ],
  ]);
  command.action(async (options: InitOptions) => {
    checkKeyPlace(command, options);
    await init(options, session);
  });
}

async function init(options: InitOptions, session: Session): Promise<void> {
  const { trustDomain } = options;
  const { terminal, clock } = session;
  const signal = deadlineSignal(ceremonyMs, terminal.interrupted());
  const file = (await outFolder(options.out))('root.pem');
  await refuseExisting(file);
  await using key = options.existingKey
    ? await openCaKey(options, session, signal)
    : await createCaKey(options, options.key, session, signal);
  const now = clock.now();
  const notAfter = wholeSeconds(now + options.life);
  const certificate = await signRootCertificate(
    {
      spki: key.spki,
      signer: key.signer,
      ...caSubject('root', trustDomain, now),
      notBefore: wholeSeconds(now - caBackdateMs),
      notAfter,
      uri: trustDomainUri(trustDomain),
    },
    signal,
  );
  await writeResult(file, pemEncode('CERTIFICATE', certificate));
  terminal.err(`root certificate: ${file}, until ${isoTime(notAfter)}\nkey: ${key.location}\nThe server's configuration:\n`);
  printBackend(session, { root: file, ...key.settings });
}
