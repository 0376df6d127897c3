import { mkdir, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { InvalidArgumentError, Option } from 'commander';
import { stringify } from 'yaml';
import { SignetError } from '../../base/errors.ts';
import { signerKeyKinds } from '../../ca/signer.ts';
import { isTrustDomain } from '../../spiffe/id.ts';
import { createFile, replaceFile } from '../../store/atomic-file.ts';
import type { Session } from '../session.ts';

/** A custodian may take minutes for an RSA key. */
export const ceremonyMs = 600_000;

export function trustDomainOption(): Option {
  return new Option('--trust-domain <name>', 'whose certificates it signs: spiffe://NAME/...')
    .argParser((text) => {
      if (!isTrustDomain(text)) throw new InvalidArgumentError('A trust domain is 1 to 255 of a-z, 0-9, ".", "_" and "-".');
      return text;
    })
    .makeOptionMandatory();
}

export function keyKindOption(): Option {
  return new Option('--key <kind>', 'the kind of key').choices(signerKeyKinds).default('ec-p256');
}

export function outOption(command: Command, what: string): Command {
  return command.requiredOption('--out <dir>', what);
}

/** The folder, made if it is missing: what is in it is no secret. */
export async function outFolder(dir: string): Promise<(name: string) => string> {
  const folder = resolve(dir);
  await mkdir(folder, { recursive: true });
  return (name) => join(folder, name);
}

/** Before a key is made that would have no certificate. Throws CONFIG_INVALID. */
export async function refuseExisting(file: string): Promise<void> {
  const there = await readFile(file).catch(() => undefined);
  if (there) throw alreadyThere(file);
}

/** Durable when it returns; what is there already is not replaced, unless it is the same or may be. Throws CONFIG_INVALID. */
export async function writeResult(file: string, text: string, replace = false): Promise<void> {
  if (replace) replaceFile(file, text, 0o644);
  else if (!createFile(file, text, 0o644) && (await readFile(file, 'utf8')) !== text) throw alreadyThere(file);
}

function alreadyThere(file: string): SignetError {
  return new SignetError('CONFIG_INVALID', `${file} is there already: choose another --out, or move it away`);
}

/** What goes into the server's configuration, on stdout; everything else that is said goes to stderr. */
export function printBackend({ terminal }: Session, files: Readonly<Record<string, unknown>>): void {
  terminal.out(stringify({ ca: { backends: { own: { type: 'files', ...files } } } }));
}
