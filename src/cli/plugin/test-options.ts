import type { TrustDomain } from '../../spiffe/id.ts';

/** What the command line of `signet plugin test` says. Durations in ms. */
export interface PluginTestOptions {
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly socket?: string;
  readonly address?: string;
  readonly tlsCa?: string;
  readonly tlsCertificate?: string;
  readonly tlsKey?: string;
  readonly tlsServerName?: string;
  readonly trustDomain: TrustDomain;
  readonly anchors?: string;
  readonly shortestLife: number;
  readonly signatures: number;
  readonly startTimeout: number;
  readonly json?: true;
}
