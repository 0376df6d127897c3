import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../base/clock.ts';
import { deadlineSignal } from '../base/deadline.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Authority } from '../ca/authority.ts';
import type { Metrics } from '../observe/metrics.ts';
import { authorityAnchors } from './authorities.ts';
import type { Authorities } from './authorities.ts';
import type { Config } from './config/schema.ts';
import type { PolicyInForce } from './policy-in-force.ts';
import type { Trust } from './trust.ts';

export interface Reload {
  /**
   * Puts another configuration in force, whole or not at all; one at a time, in the order they were asked for. Throws
   * CONFIG_INVALID for what takes a restart, and what opening a backend throws; all is then as it was before.
   */
  apply(next: Config): Promise<void>;
  /** The one in force. */
  config(): Config;
}

/** How long a new root may take to be with everybody. Longer than active-anchors.ts waits for those who lag. */
const distributionMs = 90_000;

/** Settings that a running server can take up: dotted paths, each with all below it. */
export const reloadable = ['ca.backends', 'ca.default', 'ca.trustedRoots', 'ca.distrustedAnchors', 'policy'] as const;

/** The top-level settings, or those of `ca`, that differ and take a restart. */
export function needRestart(before: Config, after: Config): string[] {
  const flat = ({ ca, ...rest }: Config): Map<string, unknown> => {
    const settings = new Map<string, unknown>(Object.entries(rest));
    for (const [name, value] of Object.entries(ca)) settings.set(`ca.${name}`, value);
    return settings;
  };
  const [old, wanted] = [flat(before), flat(after)];
  const names = new Set([...old.keys(), ...wanted.keys()]);
  const fixed = [...names].filter((name) => !reloadable.some((one) => one === name));
  return fixed.filter((name) => !isDeepStrictEqual(old.get(name), wanted.get(name)));
}

/**
 * Bundle first, then issuance: the roots of new backends are published and taken by everybody before the first
 * certificate is signed under one, and those of old ones stay until the last certificate under them has ended.
 */
export function createReload(parts: {
  readonly config: Config;
  readonly authorities: Authorities;
  readonly trust: Trust;
  readonly policy: PolicyInForce;
  readonly log: Log;
}): Reload {
  const { authorities, trust, policy, log } = parts;
  let config = parts.config;
  let last: Promise<void> = Promise.resolve();

  async function apply(next: Config): Promise<void> {
    const restart = needRestart(config, next);
    if (restart.length > 0) {
      throw new SignetError(
        'CONFIG_INVALID',
        `a change of ${restart.join(', ')} takes a restart; a running server takes up ${reloadable.join(', ')}. Nothing of this configuration is in force`,
      );
    }
    const enforcePolicy = policy.prepare(next);
    const prepared = await authorities.prepare(next);
    const restore = trust.anchors.snapshot();
    try {
      // Whatever can't be had is found before anything is published.
      const roots = await Promise.all([...prepared.opened.values()].map(authorityAnchors));
      trust.livesOf(next);
      // Those that stay are asked as well: the rules for their anchors may have changed.
      const all = new Map(
        Object.keys(next.ca.backends).flatMap((name) => pairOf(name, prepared.opened.get(name) ?? authorities.current.get(name))),
      );
      await trust.anchors.adopt(all, next);
      await trust.active.whenActive(roots.flat(), deadlineSignal(distributionMs));
    } catch (error) {
      await prepared.discard();
      try {
        await restore();
        await trust.anchors.adopt(authorities.current, config);
      } catch (failed) {
        log.error({ err: failed }, 'the anchors of the configuration in force were not taken up again');
      }
      throw error;
    }
    prepared.take();
    enforcePolicy();
    config = next;
    // In force by now: a root that is trusted for longer than it has to be is no reason to say otherwise.
    await trust.anchors.settle(next).catch((error: unknown) => {
      log.error({ err: error }, 'roots that the new configuration has no use for could not be taken out; they stay until the next one');
    });
  }

  return {
    apply(next) {
      const mine = last.then(() => apply(next));
      last = mine.catch(() => undefined);
      return mine;
    },
    config: () => config,
  };
}

function pairOf(name: string, authority: Authority | undefined): [string, Authority][] {
  return authority ? [[name, authority]] : [];
}

/** Loads and applies; every outcome is in the log and in the metrics, since whoever sent the signal gets no answer. */
export async function reloading(
  load: () => Promise<Config>,
  reload: Reload,
  metrics: Pick<Metrics, 'configReloaded'>,
  clock: Clock,
  log: Log,
): Promise<boolean> {
  try {
    const next = await load();
    const same = isDeepStrictEqual(next, reload.config());
    await reload.apply(next);
    log.info({ changed: !same }, 'the configuration was loaded again and is in force');
    metrics.configReloaded(true, clock.now());
    return true;
  } catch (error) {
    const { code, message, cause } = SignetError.from(error);
    log.error({ code, reason: message, err: cause }, 'the configuration was not loaded again; the one before stays in force, whole');
    metrics.configReloaded(false, clock.now());
    return false;
  }
}
