import { abortable } from '../base/deadline.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Authority } from '../ca/authority.ts';
import { replaceFile } from '../store/atomic-file.ts';
import type { AnchorRule } from '../trust/anchor-choice.ts';
import { anchorsSource } from '../trust/authority-anchors.ts';
import type { AuthorityAnchors } from '../trust/authority-anchors.ts';
import type { TrustBundle } from '../trust/trust-bundle.ts';
import { rootsSource, watchTrustedRoots } from '../trust/trusted-roots.ts';
import type { TrustedRoots } from '../trust/trusted-roots.ts';
import { authorityAnchors } from './authorities.ts';
import type { Config } from './config/schema.ts';

export interface Anchors {
  /** Asks one backend again, now; at most once a second whoever asks. */
  refresh(authority: string, signal: AbortSignal): Promise<void>;
  /**
   * Adds what the backends and root files of this configuration are trusted by. Nothing is taken out but what its rules
   * say. Throws if a backend's anchors can't be had and never were, or a file is bad.
   */
  adopt(authorities: ReadonlyMap<string, Authority>, config: Config): Promise<void>;
  /** What the bundle is made of now; what is returned makes it so again, for a configuration that did not come into force. */
  snapshot(): () => Promise<void>;
  /** Takes out what no backend or file of this configuration stands for, as soon as no certificate needs it. */
  settle(config: Config): Promise<void>;
  close(): void;
}

export interface AnchorsParts {
  readonly trust: TrustBundle;
  readonly chosen: AuthorityAnchors;
  /** The file `bundle.pem`. */
  readonly bundleFile: string;
  readonly log: Log;
}

interface Followed {
  readonly authority: Authority;
  readonly rule: AnchorRule;
  readonly stop: () => void;
}

const leastBetweenRefreshesMs = 1000;

/**
 * Where the trust bundle comes from: the CA backends' own roots, and files. And where it goes besides SDS: `bundle.pem`,
 * for people and load clients. A backend whose anchors can't be had now keeps those it last gave.
 */
export function createAnchors(parts: AnchorsParts): Anchors {
  const { trust, chosen, log } = parts;
  const followed = new Map<string, Followed>();
  /** The rule in force for each backend; another object is another rule. */
  const rules = new Map<string, AnchorRule>();
  const refreshed = new Map<string, { readonly at: number; readonly done: Promise<void> }>();
  let roots: TrustedRoots | undefined;

  async function take(name: string, authority: Authority, rule: AnchorRule): Promise<void> {
    let offered: readonly Buffer[];
    try {
      offered = await authorityAnchors(authority);
    } catch (error) {
      if (!trust.hasSource(anchorsSource(name))) throw SignetError.from(error);
      log.warn(
        { authority: name, err: error },
        "the CA backend's anchors can't be had; the last ones stay trusted, as far as its rules allow",
      );
      // The operator's word holds whether or not the CA is there to be asked.
      if (rules.get(name) === rule) await chosen.enforce(name, rule);
      return;
    }
    // Asked under a rule that is no longer in force: who asks under the new one takes up the answer.
    if (rules.get(name) === rule) await chosen.offer(name, offered, rule);
  }

  function follow(name: string, authority: Authority, rule: AnchorRule): void {
    followed.get(name)?.stop();
    const stop = authority.onChange(() => {
      take(name, authority, rule).catch((error: unknown) => {
        log.error({ authority: name, err: error }, "the CA backend's new anchors were not taken up");
      });
    });
    followed.set(name, { authority, rule, stop });
  }

  function writeBundle(): void {
    replaceFile(parts.bundleFile, trust.current().anchors.pem, 0o644);
  }
  const stopWriting = trust.subscribe(() => {
    // After the streams: a push doesn't wait for a disk.
    setImmediate(() => {
      try {
        writeBundle();
      } catch (error) {
        log.warn({ file: parts.bundleFile, err: error }, 'the bundle file could not be written');
      }
    });
  });

  return {
    async refresh(name, signal) {
      const known = followed.get(name);
      if (!known) return;
      const now = performance.now();
      let latest = refreshed.get(name);
      if (!latest || now - latest.at >= leastBetweenRefreshesMs) {
        latest = { at: now, done: take(name, known.authority, known.rule) };
        refreshed.set(name, latest);
      }
      await abortable(latest.done, signal).catch((error: unknown) => {
        log.warn({ authority: name, err: error }, "the CA backend's anchors were asked for again, and not taken up");
      });
    },
    async adopt(authorities, config) {
      for (const [name, authority] of authorities) {
        const rule = anchorRule(config, name);
        rules.set(name, rule);
        await take(name, authority, rule);
        follow(name, authority, rule);
      }
      const next = await watchTrustedRoots({ files: config.ca.trustedRoots, trust, log });
      roots?.close();
      roots = next;
    },
    snapshot() {
      const before = trust.sourceNames().map((name) => [name, trust.contributed(name)] as const);
      return async () => {
        for (const [name, certificates] of before) await trust.setSource(name, certificates);
        if (before.length > 0) await trust.retainSources(before.map(([name]) => name));
      };
    },
    async settle(config) {
      const names = Object.keys(config.ca.backends);
      for (const [name, { stop }] of followed) {
        if (names.includes(name)) continue;
        stop();
        followed.delete(name);
      }
      await chosen.retain(names, new Set(config.ca.distrustedAnchors));
      const files = config.ca.trustedRoots.map(rootsSource);
      await trust.retainSources(trust.sourceNames().filter((source) => !source.startsWith('file:') || files.includes(source)));
      writeBundle();
    },
    close() {
      roots?.close();
      stopWriting();
      for (const { stop } of followed.values()) stop();
    },
  };
}

/** What the operator says of a backend's anchors. Those of our own CAs are in the configuration: its author has approved them. */
function anchorRule(config: Config, name: string): AnchorRule {
  const { anchors, approvedAnchors = [] }: AnchorSettings = config.ca.backends[name] ?? {};
  return { approved: anchors === 'pinned' ? new Set(approvedAnchors) : undefined, distrusted: new Set(config.ca.distrustedAnchors) };
}

/** As far as a backend has them. */
interface AnchorSettings {
  readonly type?: string;
  readonly anchors?: 'follow' | 'pinned';
  readonly approvedAnchors?: readonly string[];
}
