import { credentials } from '@grpc/grpc-js';
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { access, lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BackoffLimits } from '../../base/backoff.ts';
import type { Clock } from '../../base/clock.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { checkSocketFolder, checkSocketPath, makeSocketFolder } from '../../base/unix-socket.ts';
import type { Door } from '../../base/unix-socket.ts';
import type { PluginEndpoint, PluginSource } from './plugin-source.ts';
import { startPluginProcess } from './plugin-process.ts';

export interface CommandSourceOptions {
  /** The plugin's name in the configuration. */
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  /** What it gets besides PATH and the variables of the protocol. */
  readonly environment: Readonly<Record<string, string>>;
  /** Of ours, 0700; made if the one above it is there. Its socket is in it. */
  readonly folder: string;
  readonly clock: Clock;
  readonly log: Log;
  /** How long it may take to end, in ms. */
  readonly graceMs?: number;
}

const path = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const usualGraceMs = 5000;
const lookEveryMs = 20;
const retry: BackoffLimits = { baseMs: 200, maxMs: 3000 };

/** Runs the plugin as a child: each endpoint is one run of it, with a socket of its own that nobody else can reach. */
export function commandSource(options: CommandSourceOptions): PluginSource {
  const { name, command, clock, log } = options;

  async function acquire(signal: AbortSignal): Promise<PluginEndpoint> {
    await checkExecutable();
    const socket = join(options.folder, `${randomBytes(6).toString('hex')}.sock`);
    await prepareFolder(socket);
    const child = startPluginProcess({
      command,
      environment: { PATH: path, ...options.environment, SIGNET_PLUGIN_SOCKET: socket, SIGNET_PLUGIN_REVISION: '1' },
      socket,
      graceMs: options.graceMs ?? usualGraceMs,
      clock,
      said: (line) => {
        // In the message, which the log scrubs of keys and tokens.
        log.info({ authority: name }, `plugin: ${line}`);
      },
    });
    const gone = new AbortController();
    let wanted = true;
    void child.ended.then((how) => {
      if (wanted) log.error({ authority: name, how }, 'the plugin ended by itself');
      gone.abort(new SignetError('AUTHORITY_UNAVAILABLE', `plugin ${name} ended (${how}): its last lines in the log say why`));
    });
    async function release(): Promise<void> {
      wanted = false;
      await child.stop();
    }
    try {
      await appears(socket, AbortSignal.any([signal, gone.signal]));
    } catch (error) {
      await release();
      throw error;
    }
    return { address: `unix:${socket}`, credentials: credentials.createInsecure(), options: {}, gone: gone.signal, release };
  }

  async function checkExecutable(): Promise<void> {
    try {
      await access(command[0], constants.X_OK);
    } catch (error) {
      const cause = error as Error;
      throw new SignetError('AUTHORITY_MISCONFIGURED', `plugin ${name}: ${command[0]} is not there, or is no program that may be run`, {
        cause,
      });
    }
  }

  async function prepareFolder(socket: string): Promise<void> {
    const door: Door = { setting: `ca.backends.${name}`, path: socket, folderMode: 0o700, entrant: 'the CA' };
    try {
      checkSocketPath(door);
      await makeSocketFolder(door);
      await checkSocketFolder(door);
    } catch (error) {
      throw new SignetError('AUTHORITY_MISCONFIGURED', SignetError.from(error).message, { cause: error });
    }
  }

  /** Connecting earlier would only make gRPC back off. */
  async function appears(socket: string, until: AbortSignal): Promise<void> {
    for (;;) {
      if (until.aborted) throw SignetError.from(until.reason);
      if ((await lstat(socket).catch(() => undefined))?.isSocket()) return;
      await sleep(lookEveryMs);
    }
  }

  return { retry, acquire };
}
