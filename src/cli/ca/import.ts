import type { Command } from 'commander';
import { resolve } from 'node:path';
import { deadlineSignal } from '../../base/deadline.ts';
import { formatDuration } from '../../base/duration.ts';
import { SignetError } from '../../base/errors.ts';
import { loadCaCertificates } from '../../ca/files/ca-files.ts';
import type { CaCertificates } from '../../ca/files/ca-files.ts';
import { spiffeId, trustDomainUri } from '../../spiffe/id.ts';
import type { TrustDomain } from '../../spiffe/id.ts';
import { verifySvid } from '../../x509/chain.ts';
import { generateKeyPair } from '../../x509/keys.ts';
import { createLeafIssuer } from '../../x509/leaf.ts';
import { pemEncode } from '../../x509/pem.ts';
import type { Session } from '../session.ts';
import { examples } from '../session.ts';
import { isoTime } from '../times.ts';
import { checkKeyPlace, keyPlaceOptions, openCaKey } from './key-place.ts';
import type { CaKey, KeyPlaceOptions } from './key-place.ts';
import { ceremonyMs, outFolder, outOption, printBackend, trustDomainOption, writeResult } from './output.ts';

interface ImportOptions extends KeyPlaceOptions {
  readonly trustDomain: TrustDomain;
  readonly root: string;
  readonly certificate: string;
  readonly out: string;
  readonly replace?: true;
}

export function defineImport(command: Command, session: Session): void {
  command
    .description("takes what the root made of `signet ca csr`'s request: checks it, and writes root.pem and intermediate.pem")
    .addOption(trustDomainOption())
    .requiredOption('--root <file>', "the root's certificate")
    .requiredOption('--certificate <file>', "the intermediate's certificate, then those between it and the root, if any");
  keyPlaceOptions(command);
  outOption(command, 'the folder for root.pem and intermediate.pem; made if missing')
    .option('--replace', 'put them in place of those that are there; then send the server a SIGHUP')
    .addHelpText(
      'after',
      `
Checked is all that Envoys and Signet will rest on: the chain up to the root, that the key is the one in the certificate, CA
bits and path lengths, name constraints, dates and the trust domain; by a trial certificate that the key signs. Nothing is
written unless all of it holds. Whether that root is the right one, only you can tell.`,
    );
  examples(command, [
    [
      'signet ca import --trust-domain example.org --root root.pem --certificate intermediate.pem --signer pkcs11 --with module=/usr/lib/softhsm/libsofthsm2.so tokenLabel=signet keyLabel=issuing pinFile=/etc/signet/pin --out /etc/signet/ca',
      'for a key in an HSM',
    ],
  ]);
  command.action(async (options: ImportOptions) => {
    checkKeyPlace(command, options);
    await importCa(options, session);
  });
}

async function importCa(options: ImportOptions, session: Session): Promise<void> {
  const { trustDomain } = options;
  const { terminal, clock } = session;
  const signal = deadlineSignal(ceremonyMs, terminal.interrupted());
  const files = { rootFile: resolve(options.root), intermediateFile: resolve(options.certificate) };
  const ca = await loadCaCertificates(files, trustDomain, clock.now());
  await using key = await openCaKey(options, session, signal);
  await tryOut(ca, key, trustDomain, clock.now(), signal);

  const folder = await outFolder(options.out);
  const [rootFile, intermediateFile] = [folder('root.pem'), folder('intermediate.pem')];
  // The root first: an intermediate that stands there has what it needs beside it.
  await writeResult(rootFile, pem([ca.root.der]), options.replace);
  await writeResult(intermediateFile, pem(ca.intermediates.map(({ der }) => der)), options.replace);
  for (const warning of warnings(ca, trustDomain)) terminal.err(`warning ${warning}\n`);
  const ends = Math.min(...[ca.root, ...ca.intermediates].map(({ notAfter }) => notAfter));
  terminal.err(
    `${rootFile}\n${intermediateFile}, good until ${isoTime(ends)} (${formatDuration(ends - clock.now())})\nkey: ${key.location}\nThe server's configuration:\n`,
  );
  printBackend(session, { root: rootFile, intermediate: intermediateFile, ...key.settings });
}

/** A certificate as the server will issue them, by this key, and verified as a peer does. Throws AUTHORITY_MISCONFIGURED. */
async function tryOut(ca: CaCertificates, key: CaKey, trustDomain: TrustDomain, now: number, signal: AbortSignal): Promise<void> {
  const [signing] = ca.intermediates;
  if (!signing) throw new SignetError('AUTHORITY_MISCONFIGURED', 'there is no intermediate certificate');
  if (!key.spki.equals(signing.spki)) {
    throw new SignetError(
      'AUTHORITY_MISCONFIGURED',
      `${signing.subjectText} is not the certificate of this key (${key.location}): was it made for another request?`,
    );
  }
  const trial = {
    spki: generateKeyPair().spki,
    spiffeId: spiffeId(trustDomain, ['signet', 'trial']),
    notBefore: now - 1000,
    notAfter: now + 1000,
  };
  const { der: leaf } = await createLeafIssuer({ certificate: signing.der, signer: key.signer }).issue(trial, signal);
  try {
    verifySvid([leaf, ...ca.intermediates.map(({ der }) => der)], [ca.root.der], now);
  } catch (error) {
    throw new SignetError('AUTHORITY_MISCONFIGURED', `what it signs is not accepted: ${SignetError.from(error).message}`, { cause: error });
  }
}

function warnings({ intermediates: [signing] }: CaCertificates, trustDomain: TrustDomain): string[] {
  const uri = trustDomainUri(trustDomain);
  return [
    ...(signing?.pathLength === 0 ? [] : ['the intermediate may have CAs below it: a path length of 0 is all that it needs']),
    ...(signing?.uris.includes(uri) ? [] : [`the intermediate does not name ${uri}: some verifiers ask for it (SPIFFE X509-SVID 4.2)`]),
  ];
}

function pem(certificates: readonly Buffer[]): string {
  return certificates.map((der) => pemEncode('CERTIFICATE', der)).join('');
}
