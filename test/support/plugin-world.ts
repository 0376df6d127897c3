import { socketSource } from '../../src/ca/plugin/address-source.ts';
import { openPluginAuthority } from '../../src/ca/plugin/plugin-authority.ts';
import type { Authority } from '../../src/ca/authority.ts';
import { guarded } from '../../src/ca/resilience/guarded-authority.ts';
import { createIssuer } from '../../src/issuance/issuer.ts';
import type { Issued, Issuer } from '../../src/issuance/issuer.ts';
import { parseTrustDomain } from '../../src/spiffe/id.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import type { KeyPair } from '../../src/x509/keys.ts';
import { hostilePlugin } from './hostile-plugin.ts';
import type { HostilePlugin } from './hostile-plugin.ts';
import { callerOf, issuingWorld } from './issuing-world.ts';
import type { IssuingWorld } from './issuing-world.ts';

/** A hostile plugin as the one backend of the whole issuing pipeline; its honest root is in the bundle. */
export interface PluginWorld extends AsyncDisposable {
  readonly world: IssuingWorld;
  readonly plugin: HostilePlugin;
  readonly authority: Authority;
  readonly issuer: Issuer;
  /** Asks for a certificate for `account`, with a key of its own unless given. */
  issue(account?: string, key?: KeyPair): Promise<Issued>;
  /** Unexpired certificates on record. */
  onRecord(): Promise<number>;
  /** Every error of the log, with its causes, as one text. */
  errors(): string;
}

export async function pluginWorld(options: { readonly signTimeoutMs?: number } = {}): Promise<PluginWorld> {
  const never = new AbortController().signal;
  const unbounded = { perSecond: 100_000, burst: 1_000_000 };
  const world = await issuingWorld({ gateLimits: { identityRate: unbounded, totalRate: unbounded } });
  const plugin = await hostilePlugin(world.clock);
  const bare = await openPluginAuthority({
    name: 'hostile',
    trustDomain: parseTrustDomain('test.example'),
    source: socketSource(plugin.socket),
    startTimeoutMs: 20_000,
    random: world.random,
    log: world.log,
  });
  const authority = guarded(bare, { clock: world.clock, random: world.random, log: world.log, timeoutMs: options.signTimeoutMs ?? 20_000 });
  await world.trust.setSource('authority:hostile', await authority.anchors(never));
  const issuer = createIssuer({
    policy: world.policy,
    authorities: new Map([['fake', authority]]),
    anchors: () => world.trust.current(),
    recorder: world.recorder,
    gate: world.gate,
    everIssued: ({ spiffeId, instance }) => world.store.issued.any(spiffeId, instance),
    newestIssuedAt: undefined,
    clock: world.clock,
    random: world.random,
    log: world.log,
    limits: { signTimeoutMs: options.signTimeoutMs ?? 20_000 },
  });
  return {
    world,
    plugin,
    authority,
    issuer,
    issue: (account = 'web', key = generateKeyPair()) =>
      issuer.issue({ mode: 'signed', caller: callerOf(world, account, 'pod-1'), csr: createCsr(key, []) }, never),
    onRecord: () => world.store.issued.countUnexpired(world.clock.now()),
    errors: () =>
      world.log.lines
        .filter(({ level }) => level === 'error')
        .map(({ message, fields }) => [message, ...causes('err' in fields ? fields.err : undefined)].join(': '))
        .join('\n'),
    async [Symbol.asyncDispose]() {
      await authority.close();
      await plugin[Symbol.asyncDispose]();
      await world[Symbol.asyncDispose]();
    },
  };
}

function causes(error: unknown): string[] {
  return error instanceof Error ? [error.message, ...causes(error.cause)] : [];
}
