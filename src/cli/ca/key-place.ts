import { resolve } from 'node:path';
import type { Command } from 'commander';
import { Option } from 'commander';
import { z } from 'zod';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { readSecret } from '../../base/secret-file.ts';
import { keyInFile } from '../../ca/files/ca-files.ts';
import { newKeyFile } from '../../ca/files/key-file.ts';
import { createSignerKey, openSigner } from '../../ca/open-signer.ts';
import type { Signer, SignerKeyKind, SignerParts } from '../../ca/signer.ts';
import { signerSettings } from '../../ca/signer-settings.ts';
import type { SignerSettings } from '../../ca/signer-settings.ts';
import { readLayers } from '../../config/layers.ts';
import { formatProblem } from '../../config/problems.ts';
import { createFile } from '../../store/atomic-file.ts';
import type { TbsSigner } from '../../x509/issuing-ca.ts';
import type { Session } from '../session.ts';
import { paintFor } from '../terminal.ts';

/** Where a CA's key is or shall be, as the options say it. */
export interface KeyPlaceOptions {
  readonly signer?: string;
  readonly with?: readonly string[];
  readonly keyFile?: string;
  readonly passphraseFile?: string;
}

/** A CA's key that can sign now. */
export interface CaKey extends AsyncDisposable {
  readonly spki: Buffer;
  readonly signer: TbsSigner;
  readonly location: string;
  /** What a backend of type `files` says to use it. */
  readonly settings: Readonly<Record<string, unknown>>;
}

/** The options are the same wherever a key is named: what made it once opens it again. */
export function keyPlaceOptions(command: Command): Command {
  return command
    .addOption(new Option('--signer <type>', 'who keeps the key: one of those that `signer` of a backend takes').conflicts('keyFile'))
    .addOption(new Option('--with <setting=value...>', "the keeper's settings, as in a configuration: tokenLabel=signet keyLabel=ca"))
    .addOption(new Option('--key-file <file>', 'or the key in a file, encrypted'))
    .addOption(new Option('--passphrase-file <file>', 'the file of its passphrase'));
}

/** Wrong usage ends the command with 2. */
export function checkKeyPlace(command: Command, options: KeyPlaceOptions): void {
  if ((options.signer === undefined) === (options.keyFile === undefined))
    command.error('signet: say where the key is: --signer TYPE --with SETTING=VALUE..., or --key-file FILE --passphrase-file FILE', {
      exitCode: 2,
    });
  if (options.keyFile !== undefined && options.passphraseFile === undefined)
    command.error('signet: --key-file needs --passphrase-file: a CA key is not written without encryption', { exitCode: 2 });
  if (options.signer === undefined && options.with) command.error('signet: --with is for --signer', { exitCode: 2 });
}

/** The key that is there. Throws what Custodian.open does, AUTHORITY_MISCONFIGURED or KEY_UNSEALABLE. */
export async function openCaKey(options: KeyPlaceOptions, session: Session, signal: AbortSignal): Promise<CaKey> {
  if (options.keyFile !== undefined) return keyFromFile(resolve(options.keyFile), options);
  const settings = await settingsOf(options);
  return elsewhere(await openSigner(settings, partsFor(session), signal), settings);
}

/** A new key there; never in place of another. */
export async function createCaKey(options: KeyPlaceOptions, kind: SignerKeyKind, session: Session, signal: AbortSignal): Promise<CaKey> {
  if (options.keyFile === undefined) {
    const made = await createSignerKey(await settingsOf(options), kind, partsFor(session), signal);
    return elsewhere(made.signer, made.settings);
  }
  const file = resolve(options.keyFile);
  if (!createFile(file, await newKeyFile(kind, await passphraseOf(options)), 0o600))
    throw new SignetError(
      'AUTHORITY_REFUSED',
      `${file} is there already: it is not replaced; use it with --existing-key, or choose another name`,
    );
  return keyFromFile(file, options);
}

async function keyFromFile(file: string, options: KeyPlaceOptions): Promise<CaKey> {
  const { spki, signer } = await keyInFile({ keyFile: file, passphrase: await passphraseOf(options) });
  const settings = { key: file, passphraseFile: resolve(options.passphraseFile ?? '') };
  return { spki, signer, location: file, settings, [Symbol.asyncDispose]: () => Promise.resolve() };
}

function passphraseOf({ passphraseFile }: KeyPlaceOptions): Promise<string> {
  return readSecret('--passphrase-file', resolve(passphraseFile ?? ''));
}

function elsewhere(signer: Signer, settings: SignerSettings): CaKey {
  const { spki, location } = signer;
  return { spki, signer, location, settings: { signer: settings }, [Symbol.asyncDispose]: () => signer.close() };
}

/** As the configuration file would have them; paths are relative to the working directory. Throws CONFIG_INVALID. */
async function settingsOf({ signer = '', with: given = [] }: KeyPlaceOptions): Promise<SignerSettings> {
  const flags: Record<string, string> = {};
  const flagNames: Record<string, string> = { type: '--signer' };
  for (const text of given) {
    const at = text.indexOf('=');
    // What stands there may be a secret that went astray: it is not repeated.
    if (at < 1) throw new SignetError('CONFIG_INVALID', '--with takes SETTING=VALUE, for example tokenLabel=signet');
    const setting = text.slice(0, at);
    flags[setting] = text.slice(at + 1);
    flagNames[setting] = `--with ${setting}`;
  }
  const json = z.toJSONSchema(signerSettings, { io: 'input' });
  const layout = { schema: signerSettings, json, flagNames, below: [{ type: signer }] };
  const { parsed, problems } = await readLayers({ env: {}, flags }, layout);
  if (!parsed) throw new SignetError('CONFIG_INVALID', problems.map(formatProblem).join('\n'));
  return parsed;
}

function partsFor({ terminal, clock }: Session): SignerParts {
  const paint = paintFor(terminal);
  const tell = (word: string) => (_fields: object, message: string) => {
    terminal.err(`${word} ${message}\n`);
  };
  const quiet = (): void => undefined;
  const log: Log = { debug: quiet, info: quiet, warn: tell(paint.yellow('warning')), error: tell(paint.red('error')) };
  return { setting: '--with', clock, log, env: terminal.env };
}
