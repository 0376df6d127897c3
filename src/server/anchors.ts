import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Authority } from '../ca/authority.ts';
import type { TrustBundle } from '../trust/trust-bundle.ts';
import { replaceFile } from '../store/atomic-file.ts';
import { rootsSource, watchTrustedRoots } from '../trust/trusted-roots.ts';
import { anchorsSource, authorityAnchors } from './authorities.ts';

export interface Anchors {
  /** Looks at all sources again, now. */
  refresh(): Promise<void>;
  close(): void;
}

export interface AnchorsParts {
  readonly trust: TrustBundle;
  readonly authorities: ReadonlyMap<string, Authority>;
  readonly trustedRoots: readonly string[];
  /** The folder that gets `bundle.pem`. */
  readonly bundleFile: string;
  readonly log: Log;
}

/**
 * Where the trust bundle comes from: the CA backends' own roots, and files. And where it goes besides SDS: `bundle.pem`,
 * for people and load clients. A backend whose anchors can't be had now keeps those it last gave.
 */
export async function connectAnchors(parts: AnchorsParts): Promise<Anchors> {
  const { trust, authorities, log } = parts;
  const stops: (() => void)[] = [];

  async function take(name: string, authority: Authority): Promise<void> {
    try {
      await trust.setSource(anchorsSource(name), await authorityAnchors(authority));
    } catch (error) {
      if (!trust.hasSource(anchorsSource(name))) throw SignetError.from(error);
      log.warn({ authority: name, err: error }, "the CA backend's anchors can't be had; the last ones stay trusted");
    }
  }

  for (const [name, authority] of authorities) {
    await take(name, authority);
    stops.push(
      authority.onChange(() => {
        take(name, authority).catch((error: unknown) => {
          log.error({ authority: name, err: error }, "the CA backend's new anchors were not taken up");
        });
      }),
    );
  }
  const roots = await watchTrustedRoots({ files: parts.trustedRoots, trust, log });
  await trust.retainSources([...[...authorities.keys()].map(anchorsSource), ...parts.trustedRoots.map(rootsSource)]);

  function writeBundle(): void {
    replaceFile(parts.bundleFile, trust.current().anchors.pem, 0o644);
  }
  writeBundle();
  stops.push(
    trust.subscribe(() => {
      // After the streams: a push doesn't wait for a disk.
      setImmediate(() => {
        try {
          writeBundle();
        } catch (error) {
          log.warn({ file: parts.bundleFile, err: error }, 'the bundle file could not be written');
        }
      });
    }),
  );

  return {
    async refresh() {
      for (const [name, authority] of authorities) await take(name, authority);
      await roots.check();
    },
    close() {
      roots.close();
      for (const stop of stops) stop();
    },
  };
}
