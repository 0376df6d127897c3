import { InvalidArgumentError, Option } from 'commander';
import { formatDuration, parseDuration } from '../base/duration.ts';
import { SignetError } from '../base/errors.ts';
import type { SpiffeId } from '../spiffe/id.ts';
import { parseSpiffeId } from '../spiffe/id.ts';

/** Options that several commands share, so that they are spelt and checked the same everywhere. */
export function dataOption(): Option {
  return new Option('--data <dir>', "the server's data folder").env('SIGNET_DATA').default('.signet');
}

/** For a server whose configuration moved the socket. */
export function socketOption(): Option {
  return new Option('--socket <path>', 'the admin socket, if the configuration has it elsewhere (listen.admin)');
}

export function jsonOption(what = 'print JSON'): Option {
  return new Option('--json', what);
}

export interface DurationLimits {
  readonly minMs?: number;
  readonly maxMs?: number;
}

/** A parser for commander: a wrong value is wrong usage, exit code 2. */
export function durationArgument(limits: DurationLimits = {}): (text: string) => number {
  return (text) => {
    const ms = orWrongUsage(() => parseDuration(text));
    const { minMs = 1, maxMs = Number.POSITIVE_INFINITY } = limits;
    if (ms < minMs) throw new InvalidArgumentError(`At least ${formatDuration(minMs)}.`);
    if (ms > maxMs) throw new InvalidArgumentError(`At most ${formatDuration(maxMs)}.`);
    return ms;
  };
}

export function spiffeIdArgument(text: string): SpiffeId {
  return orWrongUsage(() => parseSpiffeId(text));
}

/** `HOST:PORT`, an IPv6 host in brackets. */
export function addressArgument(text: string): { readonly host: string; readonly port: number } {
  const parts = /^(?:\[([0-9a-fA-F:.]{2,45})\]|([A-Za-z0-9.-]{1,253})):(\d{1,5})$/.exec(text);
  const port = Number(parts?.[3]);
  const host = parts?.[1] ?? parts?.[2];
  if (host === undefined || port > 65_535) throw new InvalidArgumentError('Write HOST:PORT, an IPv6 host in brackets.');
  return { host, port };
}

export function countArgument(text: string): number {
  const count = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (count < 1) throw new InvalidArgumentError('Write a whole number from 1 on.');
  return count;
}

function orWrongUsage<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new InvalidArgumentError(SignetError.from(error).message);
  }
}

/** An address option whose help shows its default as it is written on the command line. */
export function addressOption(flags: string, description: string, fallback: string): Option {
  return new Option(flags, description).argParser(addressArgument).default(addressArgument(fallback), fallback);
}
