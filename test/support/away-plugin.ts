import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { socketSource } from '../../src/ca/plugin/address-source.ts';
import { openPluginAuthority } from '../../src/ca/plugin/plugin-authority.ts';
import { parseTrustDomain } from '../../src/spiffe/id.ts';
import { sha256Hex } from '../../src/x509/keys.ts';
import type { AwayBackend } from './authority-away-story.ts';
import { endChild, keepTrack } from './process.ts';
import { silentLog } from './silent-log.ts';
import { tempFolder } from './temp.ts';

/**
 * A template under examples/plugins, run beside Signet on a socket of its own; its root was approved beforehand. Both
 * templates take the folder of their CA and the socket as the last arguments, and say on stderr when they listen.
 */
export async function awayPlugin([program, ...args]: readonly [string, ...string[]]): Promise<AwayBackend> {
  const folder = await tempFolder();
  const socket = folder.file('plugin.sock');
  let child: ChildProcess;

  function start(): Promise<void> {
    child = spawn(program, [...args, folder.file('ca'), socket], { stdio: ['ignore', 'ignore', 'pipe'] });
    keepTrack(child);
    return new Promise((resolve, reject) => {
      child.stderr?.once('data', () => {
        resolve();
      });
      child.once('exit', () => {
        reject(new Error('the plugin ended'));
      });
    });
  }

  await start();
  const options = { name: 'first', source: socketSource(socket), startTimeoutMs: 20_000, random: Math.random, log: silentLog };
  const authority = await openPluginAuthority({ ...options, trustDomain: parseTrustDomain('cluster.local') });
  const anchors = await authority.anchors(new AbortController().signal);
  await authority.close();
  return {
    settings: { type: 'plugin', socket, anchors: 'pinned', approvedAnchors: anchors.map((der) => sha256Hex(der)) },
    stop: () => endChild(child),
    start,
    async [Symbol.asyncDispose]() {
      await endChild(child);
      await folder[Symbol.asyncDispose]();
    },
  };
}
