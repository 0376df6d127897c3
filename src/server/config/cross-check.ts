import { formatDuration } from '../../base/duration.ts';
import { checkIssuerSettings, issuerOverlap } from '../../identity/issuer-settings.ts';
import { isReservedPath } from '../../spiffe/reserved-path.ts';
import { isIP } from 'node:net';
import { leastTierMs } from '../../ca/kubernetes-csr/settings.ts';
import { dirname, sep } from 'node:path';
import { longestSocketPath } from '../../base/unix-socket.ts';
import { isLoopback, isWildcard, splitAddress } from '../../config/address.ts';
import type { Finding } from '../../config/problems.ts';
import { hintsAhead } from '../../trust/jwt-keys.ts';
import { fallbackOf } from './backend-schema.ts';
import type { Config } from './schema.ts';
import { issuerSettings } from './settings.ts';
import { suggest } from '../../config/suggest.ts';

export interface CrossChecked {
  readonly faults: readonly Finding[];
  readonly warnings: readonly Finding[];
}

/** What no single setting can tell of itself. */
export function crossCheck(config: Config, options: { readonly dev: boolean }): CrossChecked {
  return {
    faults: [
      ...listeners(config),
      ...issuers(config, options.dev),
      ...certificateSources(config, options.dev),
      ...backends(config),
      ...keyEncryption(config, options.dev),
      ...policy(config),
      ...shortLives(config),
      ...jwt(config),
    ],
    warnings: exposure(config, options.dev),
  };
}

function listeners(config: Config): Finding[] {
  const findings: Finding[] = [];
  const { grpc, http, admin, names } = config.listen;
  if (splitAddress(grpc).port !== 0 && grpc === http)
    findings.push({ path: ['listen', 'http'], message: 'is the same as listen.grpc', hint: 'give each a port of its own' });
  if (Buffer.byteLength(admin) > longestSocketPath) {
    findings.push({
      path: ['listen', 'admin'],
      message: `a unix socket's path has at most ${String(longestSocketPath)} bytes, this one has ${String(Buffer.byteLength(admin))}`,
      hint: 'choose a shorter data folder, or set listen.admin',
    });
  }
  if (names.length === 0) {
    findings.push({
      path: ['listen', 'names'],
      message: 'is required when listen.grpc is on every address',
      hint: 'the DNS names and IP addresses under which clients reach this server',
    });
  }
  for (const [i, name] of names.entries()) {
    const isName = /^(?:\*\.)?(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$/.test(
      name,
    );
    if (isIP(name) === 0 && !isName) findings.push({ path: ['listen', 'names', i], message: 'is neither a DNS name nor an IP address' });
  }
  return findings;
}

function issuers(config: Config, dev: boolean): Finding[] {
  const findings: Finding[] = [];
  const list = config.identity.issuers;
  if (list.length === 0 && config.identity.certificates.length === 0 && !dev)
    findings.push({
      path: ['identity', 'issuers'],
      message: 'at least one is required',
      hint: 'without one nobody can prove who they are; --dev has an issuer of its own',
    });
  for (const [i, issuer] of list.entries()) {
    const path = ['identity', 'issuers', i] as const;
    if (list.findIndex(({ id }) => id === issuer.id) < i) findings.push({ path: [...path, 'id'], message: 'is the id of an issuer above' });
    const ways = (['jwks', 'discovery', 'tokenReview'] as const).filter((key) => issuer[key] !== undefined);
    if (ways.length !== 1) {
      findings.push({
        path,
        message:
          ways.length === 0
            ? 'needs jwks or discovery, where its public keys are, or tokenReview, whom to ask'
            : `has both ${ways.join(' and ')}`,
        hint: 'give exactly one of them',
      });
    }
    if (issuer.pods && issuer.tokenReview)
      findings.push({ path: [...path, 'pods'], message: 'has no use with tokenReview', hint: 'the same API server is asked' });
    for (const key of ['tokenReview', 'pods'] as const) {
      if (issuer[key]?.context !== undefined && issuer[key].kubeconfig === undefined)
        findings.push({ path: [...path, key, 'context'], message: 'has no use without a kubeconfig' });
    }
    if (issuer.allow.length === 0 && !dev)
      findings.push({
        path: [...path, 'allow'],
        message: 'is required',
        hint: 'patterns of the identities that this issuer may speak for; "**" for all',
      });
    const remote = issuer.discovery !== undefined || (issuer.jwks?.startsWith('https://') ?? false);
    for (const key of ['caFile', 'tokenFile'] as const) {
      if (issuer[key] !== undefined && !remote)
        findings.push({
          path: [...path, key],
          message: `has no use with ${issuer.tokenReview ? 'tokenReview' : 'a jwks file'}`,
          hint: 'it is for keys that are fetched',
        });
    }
  }
  return findings.length > 0 ? findings : issuerRules(config, dev);
}

/** What identity/ itself knows of issuers, above all that each owns names that no other can make. */
function issuerRules(config: Config, dev: boolean): Finding[] {
  const list = config.identity.issuers;
  const settings = list.map((issuer) => issuerSettings(dev && issuer.allow.length === 0 ? { ...issuer, allow: ['**'] } : issuer));
  return checkIssuerSettings(settings).map(({ issuer: id, field, message }) => {
    const index = list.findIndex((issuer) => issuer.id === id);
    const keys = list[index]?.jwks === undefined ? 'discovery' : 'jwks';
    const key = field === 'keys' ? keys : field === 'review' ? 'tokenReview' : field;
    return { path: ['identity', 'issuers', index, key], message };
  });
}

/** Each owns its paths, like an issuer of tokens: no certificate may make what a token can. */
function certificateSources(config: Config, dev: boolean): Finding[] {
  const findings: Finding[] = [];
  const { issuers: tokens, certificates } = config.identity;
  for (const [i, source] of certificates.entries()) {
    const path = ['identity', 'certificates', i] as const;
    const others = [...tokens, ...certificates.slice(0, i)];
    if (others.some(({ id }) => id === source.id))
      findings.push({ path: [...path, 'id'], message: 'is the id of another source of identities' });
    if (source.allow.length === 0 && !dev) {
      findings.push({
        path: [...path, 'allow'],
        message: 'is required',
        hint: 'patterns of the identities that these certificates may stand for; "**" for all',
      });
    }
    if (isReservedPath(source.path))
      findings.push({ path: [...path, 'path'], message: "names under /signet/ are the control plane's own" });
    for (const other of others) {
      const overlap = issuerOverlap(other, source);
      if (overlap !== undefined) findings.push({ path: [...path, 'path'], message: `overlaps "${other.id}": ${overlap}` });
    }
  }
  return findings;
}

function backends(config: Config): Finding[] {
  const names = Object.keys(config.ca.backends);
  if (names.length === 0) return [{ path: ['ca', 'backends'], message: 'at least one is required' }];
  if (config.ca.default === '')
    return [{ path: ['ca', 'default'], message: 'is required when there are several backends', hint: `one of ${names.join(', ')}` }];
  const findings: Finding[] = missing(['ca', 'default'], config.ca.default, names, 'backend');
  if (Object.values(config.ca.backends).filter(({ type }) => type === 'builtin').length > 1) {
    findings.push({ path: ['ca', 'backends'], message: 'only one backend may be builtin' });
  }
  return [...findings, ...fallbacks(config.ca.backends)];
}

function fallbacks(backends: Config['ca']['backends']): Finding[] {
  const names = Object.keys(backends);
  return Object.entries(backends).flatMap(([name, settings]) => {
    const fallback = fallbackOf(settings);
    if (fallback === undefined) return [];
    const path = ['ca', 'backends', name, 'fallback'] as const;
    const unknown = missing(path, fallback, names, 'backend');
    if (unknown.length > 0) return unknown;
    const way = [name];
    for (let next: string | undefined = fallback; next !== undefined; next = fallbackOf(backends[next])) {
      way.push(next);
      if (next === name) {
        const hint = 'leave out the last one: when all are away there is nobody left to ask';
        return [{ path, message: `leads back to itself: ${way.join(' -> ')}`, hint }];
      }
      // A circle further on is told where it is.
      if (way.indexOf(next) < way.length - 1) return [];
    }
    return [];
  });
}

function keyEncryption(config: Config, dev: boolean): Finding[] {
  const path = ['ca', 'keyEncryption'] as const;
  const { keyFile, keyEnvironment, passphraseFile } = config.ca.keyEncryption;
  const given = [keyFile, keyEnvironment, passphraseFile].filter((value) => value !== undefined).length;
  const findings: Finding[] = [];
  if (given > 1)
    findings.push({ path, message: 'has more than one of keyFile, keyEnvironment and passphraseFile', hint: 'give exactly one' });
  if (given === 0 && !dev) {
    findings.push({
      path,
      message: 'is required',
      hint: 'for example keyFile: /etc/signet/key-encryption.key, made by: head -c32 /dev/urandom | base64 -w0',
    });
  }
  // A copy of the data folder must not be a copy of the CA.
  for (const key of ['keyFile', 'passphraseFile'] as const) {
    const file = config.ca.keyEncryption[key];
    if (file !== undefined && !dev && (dirname(file) + sep).startsWith(config.data + sep)) {
      findings.push({
        path: [...path, key],
        message: 'is in the data folder, beside what it encrypts',
        hint: 'keep it elsewhere, so that a copy of the folder is not a copy of the CA',
      });
    }
  }
  return findings;
}

function policy(config: Config): Finding[] {
  const tiers = Object.keys(config.policy.tiers);
  const names = Object.keys(config.ca.backends);
  return [
    ...missing(['policy', 'defaults', 'tier'], config.policy.defaults.tier, tiers, 'tier'),
    ...config.policy.rules.flatMap((rule, i) => [
      ...(rule.tier === undefined ? [] : missing(['policy', 'rules', i, 'tier'], rule.tier, tiers, 'tier')),
      ...(rule.backend === undefined ? [] : missing(['policy', 'rules', i, 'backend'], rule.backend, names, 'backend')),
      ...(rule.certSigners ?? []).flatMap((signer, j) => missing(['policy', 'rules', i, 'certSigners', j], signer, names, 'backend')),
    ]),
    ...config.policy.downstream.flatMap((rule, i) =>
      rule.backend === undefined ? [] : missing(['policy', 'downstream', i, 'backend'], rule.backend, names, 'backend'),
    ),
  ];
}

/** Tiers that a backend can't serve: every first certificate would be refused, one by one. */
function shortLives({ ca: { backends, default: usual }, policy: { tiers, rules, defaults } }: Config): Finding[] {
  const lives = (path: Finding['path'], tier: string, names: readonly string[]): Finding[] => {
    const name = names.find((one) => backends[one]?.type === 'kubernetes-csr');
    const life = tiers[tier];
    if (name === undefined || life === undefined || life >= leastTierMs) return [];
    return [
      {
        path,
        message: `tier ${tier} gives ${formatDuration(life)}, and backend ${name} (kubernetes-csr) can't be asked for less than 10m`,
        hint: `a tier of ${formatDuration(leastTierMs)} at least (a first certificate may get half of it), or another backend`,
      },
    ];
  };
  return [
    ...lives(['policy', 'defaults', 'tier'], defaults.tier, [usual]),
    ...rules.flatMap((rule, i) =>
      lives(['policy', 'rules', i], rule.tier ?? defaults.tier, [rule.backend ?? usual, ...(rule.certSigners ?? [])]),
    ),
  ];
}

function jwt({ jwt: { ttl, keyLife, refreshHint } }: Config): Finding[] {
  const path = ['jwt', 'keyLife'] as const;
  const findings: Finding[] = [];
  // The next key comes at half of a life, and everybody has to have it by the end.
  if (keyLife < 2 * hintsAhead * refreshHint) {
    const least = formatDuration(2 * hintsAhead * refreshHint);
    findings.push({
      path,
      message: `is less than ${String(2 * hintsAhead)} times jwt.refreshHint`,
      hint: `at least ${least}, or a shorter hint`,
    });
  }
  if (keyLife < 2 * ttl) findings.push({ path, message: 'is less than twice jwt.ttl', hint: `at least ${formatDuration(2 * ttl)}` });
  return findings;
}

function missing(path: Finding['path'], name: string, known: readonly string[], what: string): Finding[] {
  if (known.includes(name)) return [];
  const meant = suggest(name, known);
  return [
    {
      path,
      message: `there is no ${what} of that name`,
      hint: meant === undefined ? `one of ${known.join(', ')}` : `did you mean "${meant}"?`,
    },
  ];
}

function exposure(config: Config, dev: boolean): Finding[] {
  const findings: Finding[] = [];
  const grpc = splitAddress(config.listen.grpc).host;
  const http = splitAddress(config.listen.http).host;
  if (!isLoopback(http))
    findings.push({ path: ['listen', 'http'], message: 'is not on loopback: /metrics is readable by whoever reaches it' });
  if (dev && (!isLoopback(grpc) || isWildcard(grpc))) {
    findings.push({
      path: ['listen', 'grpc'],
      message: 'is not on loopback: in --dev whoever can read the data folder can be anybody',
      hint: 'use --dev on one machine only',
    });
  }
  return findings;
}
