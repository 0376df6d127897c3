import type { Clock } from '../../base/clock.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { addressSource, socketSource } from './address-source.ts';
import { commandSource } from './command-source.ts';
import type { PluginSource } from './plugin-source.ts';
import type { PluginSettings } from './settings.ts';

export interface SourceParts {
  /** The plugin's name in the configuration. */
  readonly name: string;
  /** Where the sockets of plugins that Signet starts are. */
  readonly folder: string;
  /** Signet's own. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly log: Log;
}

/** Where the settings say that the plugin is. */
export function configuredSource(settings: PluginSettings, parts: SourceParts): PluginSource {
  const { name, log } = parts;
  const { command, socket, address, tls } = settings;
  const [program, ...args] = command ?? [];
  if (program !== undefined)
    return commandSource({ ...parts, command: [program, ...args], environment: handedOn(settings, parts.environment) });
  if (socket !== undefined) return socketSource(socket);
  if (address !== undefined && tls !== undefined) return addressSource({ name, address, tls, log });
  throw new SignetError('CONFIG_INVALID', `ca.backends.${name} needs exactly one of command, socket and address`);
}

function handedOn(settings: PluginSettings, own: SourceParts['environment']): Record<string, string> {
  const inherited = settings.inheritEnvironment.flatMap((variable) => {
    const value = own[variable];
    return value === undefined ? [] : [[variable, value] as const];
  });
  return { ...Object.fromEntries(inherited), ...settings.environment };
}
