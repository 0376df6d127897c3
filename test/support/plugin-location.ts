import { rm } from 'node:fs/promises';
import { systemClock } from '../../src/base/clock.ts';
import type { Authority } from '../../src/ca/authority.ts';
import { commandSource } from '../../src/ca/plugin/command-source.ts';
import { interruptible } from '../../src/ca/plugin/interruptible-source.ts';
import { openPluginAuthority } from '../../src/ca/plugin/plugin-authority.ts';
import type { PluginSource } from '../../src/ca/plugin/plugin-source.ts';
import { parseTrustDomain } from '../../src/spiffe/id.ts';
import type { TrustDomain } from '../../src/spiffe/id.ts';
import type { AuthorityLocation } from './authority-suite.ts';
import { eventually } from './eventually.ts';
import { silentLog } from './silent-log.ts';
import { tempFolder } from './temp.ts';

export const pluginTrustDomain = parseTrustDomain('example.org');

/**
 * A template under examples/plugins, run as Signet runs it. Both templates take the folder of their CA as the last argument,
 * make a new CA in an empty one, and slow down at MOST_PER_SECOND.
 */
export async function templatePlugin(command: readonly [string, ...string[]]): Promise<AuthorityLocation> {
  const folder = await tempFolder();
  const ca = folder.file('ca');
  const environment: Record<string, string> = {};
  const newSource = () =>
    interruptible(
      commandSource({
        name: 'template',
        command: [...command, ca],
        environment,
        folder: folder.file('run'),
        clock: systemClock,
        log: silentLog,
      }),
    );
  let source = newSource();

  let opened: Authority | undefined;

  const openFor = (trustDomain: TrustDomain, from: PluginSource): Promise<Authority> =>
    openPluginAuthority({ name: 'template', trustDomain, source: from, startTimeoutMs: 20_000, random: Math.random, log: silentLog });
  async function restart(change: () => unknown): Promise<void> {
    await source.stop();
    await change();
    await source.start();
    await eventually('the plugin is back', async () => ((await opened?.health(AbortSignal.timeout(5000)))?.canSign ? true : undefined));
  }

  return {
    async open() {
      source = newSource();
      opened = await openFor(pluginTrustDomain, source);
      return opened;
    },
    faults: {
      outage: { stop: () => source.stop(), start: () => source.start() },
      // Its CA is bound to the trust domain that it was made for.
      openMisconfigured: () => openFor(parseTrustDomain('other.example'), newSource()),
      async throttle() {
        await restart(() => {
          environment['MOST_PER_SECOND'] = '5';
        });
        return () =>
          restart(() => {
            delete environment['MOST_PER_SECOND'];
          });
      },
      rotate: () => restart(() => rm(ca, { recursive: true })),
    },
    dispose: async () => {
      await folder[Symbol.asyncDispose]();
    },
  };
}
