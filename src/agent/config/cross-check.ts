import { dirname, sep } from 'node:path';
import { longestSocketPath } from '../../base/unix-socket.ts';
import { isLoopback, splitAddress } from '../../config/address.ts';
import type { Finding } from '../../config/problems.ts';
import { isSpiffeId, trustDomainOf } from '../../spiffe/id.ts';
import { fileNames } from './files-schema.ts';
import type { AgentConfig, WorkloadConfig } from './schema.ts';

/** What no single setting can tell of itself. */
export function crossCheck(config: AgentConfig): Finding[] {
  return [
    ...trust(config),
    ...config.workloads.flatMap((workload, i) => [
      ...door(workload, i),
      ...identity(config, workload, i),
      ...unique(config.workloads, i),
      ...files(config, i),
    ]),
    ...cache(config),
    ...http(config),
  ];
}

function trust({ serverTrust }: AgentConfig): Finding[] {
  const path = ['serverTrust'] as const;
  const pins = serverTrust.pinnedSpki.length;
  if (serverTrust.caFile === undefined && pins === 0)
    return [
      {
        path,
        message: 'needs caFile or pinnedSpki',
        hint: 'without one nobody knows who the server is; its data folder has server-ca.pem',
      },
    ];
  if (serverTrust.caFile !== undefined && pins > 0)
    return [{ path, message: 'has both caFile and pinnedSpki', hint: 'give exactly one of them' }];
  return [];
}

function door({ socket, mode, group }: WorkloadConfig, i: number): Finding[] {
  const findings: Finding[] = [];
  const size = Buffer.byteLength(socket);
  if (size > longestSocketPath) {
    findings.push({
      path: ['workloads', i, 'socket'],
      message: `a unix socket's path has at most ${String(longestSocketPath)} bytes, this one has ${String(size)}`,
      hint: 'choose a shorter one',
    });
  }
  if (mode === '0750' && group === undefined)
    findings.push({
      path: ['workloads', i, 'group'],
      message: 'is required with mode 0750',
      hint: 'the group whose processes are this workload',
    });
  if (mode === '0700' && group !== undefined)
    findings.push({ path: ['workloads', i, 'group'], message: 'has no use with mode 0700', hint: 'mode: "0750" lets a group in' });
  return findings;
}

function identity({ trustDomain }: AgentConfig, { spiffeId }: WorkloadConfig, i: number): Finding[] {
  if (spiffeId === undefined || !isSpiffeId(spiffeId) || trustDomainOf(spiffeId) === trustDomain) return [];
  return [{ path: ['workloads', i, 'spiffeId'], message: `is not of the trust domain ${trustDomain}` }];
}

/** A folder is one workload's door: two sockets in it would be open to both. */
function unique(workloads: readonly WorkloadConfig[], i: number): Finding[] {
  const own = workloads[i];
  if (!own) return [];
  const findings: Finding[] = [];
  const before = workloads.slice(0, i);
  if (before.some(({ name }) => name === own.name))
    findings.push({ path: ['workloads', i, 'name'], message: 'is the name of a workload above' });
  if (before.some(({ socket }) => dirname(socket) === dirname(own.socket))) {
    findings.push({
      path: ['workloads', i, 'socket'],
      message: 'is in the folder of a workload above',
      hint: 'each needs a folder of its own: whoever may enter it is that workload',
    });
  }
  return findings;
}

/** Whoever may enter a folder of files has the key in them. */
function files({ workloads, cache: { folder: cacheFolder } }: AgentConfig, i: number): Finding[] {
  const own = workloads[i]?.files;
  if (!own) return [];
  const findings: Finding[] = [];
  const others = workloads.filter((_, j) => j !== i).map(({ socket }) => dirname(socket));
  const before = workloads.slice(0, i).flatMap((workload) => workload.files?.folder ?? []);
  if ([...others, ...before].includes(own.folder))
    findings.push({ path: ['workloads', i, 'files', 'folder'], message: "is another workload's", hint: 'give each a folder of its own' });
  if (cacheFolder !== undefined && `${own.folder}${sep}`.startsWith(cacheFolder + sep))
    findings.push({ path: ['workloads', i, 'files', 'folder'], message: 'is in the cache folder', hint: 'keep it elsewhere' });
  const names = fileNames(own);
  if (new Set(names).size !== names.length) findings.push({ path: ['workloads', i, 'files'], message: 'has one name for two files' });
  return findings;
}

function cache({ cache: { folder, sealingKeyFile }, workloads }: AgentConfig): Finding[] {
  const findings: Finding[] = [];
  if (folder === undefined && sealingKeyFile !== undefined)
    findings.push({ path: ['cache', 'sealingKeyFile'], message: 'has no use without cache.folder' });
  if (folder !== undefined && sealingKeyFile !== undefined && (dirname(sealingKeyFile) + sep).startsWith(folder + sep)) {
    findings.push({
      path: ['cache', 'sealingKeyFile'],
      message: 'is in the cache folder, beside what it seals',
      hint: 'keep it elsewhere, so that a copy of the folder is not a copy of the keys',
    });
  }
  if (folder !== undefined && workloads.some(({ socket }) => `${dirname(socket)}${sep}`.startsWith(folder + sep)))
    findings.push({
      path: ['cache', 'folder'],
      message: 'has a socket in it',
      hint: 'workloads have no business there: keep it elsewhere',
    });
  return findings;
}

function http({ listen }: AgentConfig): Finding[] {
  if (listen.http === undefined || isLoopback(splitAddress(listen.http).host)) return [];
  return [{ path: ['listen', 'http'], message: 'is not on loopback', hint: "who is served here is nobody else's business: use 127.0.0.1" }];
}
