import type { Command } from 'commander';
import { Option } from 'commander';
import { resolve } from 'node:path';
import { deadlineSignal } from '../../base/deadline.ts';
import { formatDuration } from '../../base/duration.ts';
import { SignetError } from '../../base/errors.ts';
import { caBackdateMs, caSubject, wholeSeconds, yearMs } from '../../ca/ca-name.ts';
import { isTrustDomain } from '../../spiffe/id.ts';
import type { TrustDomain } from '../../spiffe/id.ts';
import { createIntermediateCertificate } from '../../x509/ca-certificate.ts';
import { parseCertificate } from '../../x509/certificate.ts';
import { longestCsr, parseCsr } from '../../x509/csr.ts';
import { certificatesFromPem, pemEncode } from '../../x509/pem.ts';
import { readSmallFile } from '../../base/small-file.ts';
import { durationArgument } from '../options.ts';
import type { Session } from '../session.ts';
import { examples } from '../session.ts';
import { isoTime } from '../times.ts';
import { checkKeyPlace, keyPlaceOptions, openCaKey } from './key-place.ts';
import type { KeyPlaceOptions } from './key-place.ts';
import { ceremonyMs, writeResult } from './output.ts';

interface SignOptions extends KeyPlaceOptions {
  readonly root: string;
  readonly csr: string;
  readonly life: number;
  readonly out: string;
}

const largestCertificates = 256 * 1024;
const scheme = 'spiffe://';

export function defineSign(command: Command, session: Session): void {
  command
    .description("an intermediate's certificate, by the root's key: where that is, perhaps offline")
    .requiredOption('--root <file>', "the root's certificate")
    .requiredOption('--csr <file>', 'what `signet ca csr` wrote');
  keyPlaceOptions(command)
    .addOption(
      new Option('--life <duration>', "of the intermediate; at most to the root's end")
        .argParser(durationArgument({ minMs: 3_600_000, maxMs: 30 * yearMs }))
        .default(yearMs, '365d'),
    )
    .requiredOption('--out <file>', 'where the certificate goes')
    .addHelpText(
      'after',
      `
--signer or --key-file say where the root's key is. The certificate is a CA's of path length 0: it can sign for workloads, and
make no CAs below it. Compare what the request is for with whoever made it, before you sign.`,
    );
  examples(command, [
    [
      'signet ca sign --root root.pem --key-file root.key --passphrase-file passphrase --csr intermediate.csr --out intermediate.pem',
      'on the offline machine',
    ],
  ]);
  command.action(async (options: SignOptions) => {
    checkKeyPlace(command, options);
    await sign(options, session);
  });
}

async function sign(options: SignOptions, session: Session): Promise<void> {
  const { terminal, clock } = session;
  const signal = deadlineSignal(ceremonyMs, terminal.interrupted());
  const root = await readRoot(options.root);
  const request = parseCsr(await readSmallFile(resolve(options.csr), longestCsr), { ofCa: true });
  const trustDomain = trustDomainFor(request.uris, request.otherNames, parseCertificate(root).uris);
  await using key = await openCaKey(options, session, signal);
  const now = clock.now();
  const notAfter = Math.min(wholeSeconds(now + options.life), parseCertificate(root).notAfter);
  const certificate = await createIntermediateCertificate(
    {
      issuer: { certificate: root, signer: key.signer },
      spki: request.key.spki,
      ...caSubject('intermediate', trustDomain, now),
      notBefore: wholeSeconds(now - caBackdateMs),
      notAfter,
      uri: scheme + trustDomain,
      pathLength: 0,
    },
    signal,
  );
  await writeResult(resolve(options.out), pemEncode('CERTIFICATE', certificate));
  terminal.err(
    `certificate: ${resolve(options.out)}, for spiffe://${trustDomain}, until ${isoTime(notAfter)} (${formatDuration(notAfter - now)})\n` +
      'Next: take it, and root.pem, to the server and run `signet ca import`.\n',
  );
}

async function readRoot(file: string): Promise<Buffer> {
  const [root, second] = certificatesFromPem((await readSmallFile(resolve(file), largestCertificates)).toString('latin1'));
  if (!root || second) throw new SignetError('INVALID_ARGUMENT', `${file} must hold exactly one certificate, the root`);
  return root;
}

/** The one that the request names, and nothing else; the root, if it names one, must agree. */
function trustDomainFor(asked: readonly string[], otherNames: readonly string[], ofRoot: readonly string[]): TrustDomain {
  const [uri = '', second] = asked;
  const trustDomain = uri.slice(scheme.length);
  if (!uri.startsWith(scheme) || second !== undefined || otherNames.length > 0 || !isTrustDomain(trustDomain))
    throw new SignetError(
      'INVALID_CSR',
      'the request must name its trust domain, spiffe://NAME, and nothing else: `signet ca csr` makes such',
    );
  const other = ofRoot.find((one) => one.startsWith(scheme) && one !== uri);
  if (other !== undefined) throw new SignetError('INVALID_CSR', `the request is for ${uri}, but the root is of ${other}`);
  return trustDomain;
}
