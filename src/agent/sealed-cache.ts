import { lstatSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { Clock } from '../base/clock.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { KeySeal } from '../ca/key-seal.ts';
import { readSmallFile } from '../base/small-file.ts';
import type { SpiffeId, TrustDomain } from '../spiffe/id.ts';
import { isSpiffeId, trustDomainOf } from '../spiffe/id.ts';
import { replaceFile } from '../store/atomic-file.ts';
import { checkIssued } from '../x509/chain.ts';
import { importKeyPair, privateKeyPem } from '../x509/keys.ts';
import type { TrustVersions } from './trust-versions.ts';
import type { JwtBundles } from './jwt-bundles.ts';
import type { HeldMaterial } from './workload.ts';

/** What a restarted agent serves while every server is away: one sealed file per workload. */
export interface SealedCache {
  /** Undefined where there is nothing, nothing that still holds, or nothing that this key opens. */
  load(workload: string, expected: SpiffeId | undefined): Promise<HeldMaterial | undefined>;
  /** Durable when it returns. A failure is logged: the workload is served all the same. */
  save(workload: string, held: HeldMaterial): void;
  /** The keys that verify JWT-SVIDs, as they were when a server last answered. */
  loadJwtBundles(workload: string): Promise<JwtBundles | undefined>;
  saveJwtBundles(workload: string, bundles: JwtBundles): void;
}

const purpose = 'agent/workload';
const jwtPurpose = 'agent/jwt-bundles';
const largestFile = 2 * 1024 * 1024;
const base64 = z.base64().max(64 * 1024);
const documentSchema = z.strictObject({
  format: z.literal(1),
  spiffeId: z.string(),
  issuedAt: z.int().positive(),
  key: z.string().max(16 * 1024),
  chain: z.array(base64).min(1).max(10),
  trust: z.strictObject({ generation: z.int().min(0), anchors: z.array(base64).min(1).max(500) }),
});
const jwtSchema = z.strictObject({ format: z.literal(1), bundles: z.record(z.string().max(300), z.string().max(256 * 1024)) });
type SealedDocument = z.infer<typeof documentSchema>;

/** Throws CONFIG_INVALID for a folder that isn't ours alone. */
export function openSealedCache(parts: {
  readonly folder: string;
  readonly seal: KeySeal;
  readonly trustDomain: TrustDomain;
  readonly trustVersions: TrustVersions;
  readonly clock: Clock;
  readonly log: Log;
}): SealedCache {
  const { folder, seal, trustDomain, trustVersions, clock, log } = parts;
  checkFolder(folder);

  /** Judged as if it came from a server just now: an old cache is no reason to serve what has ended or hangs on nothing. */
  function verified(document: SealedDocument, expected: SpiffeId | undefined): HeldMaterial {
    const { spiffeId, issuedAt } = document;
    if (!isSpiffeId(spiffeId) || trustDomainOf(spiffeId) !== trustDomain)
      throw new SignetError('STORE_MISMATCH', 'it is of another trust domain');
    if (expected !== undefined && spiffeId !== expected)
      throw new SignetError('STORE_MISMATCH', 'it is of another identity than the configured one');
    const key = importKeyPair(document.key);
    const trust = trustVersions.checked(document.trust.generation, document.trust.anchors.map(decode));
    const chain = checkIssued({
      chain: document.chain.map(decode),
      anchors: trust.anchors.certificates,
      at: clock.now(),
      expected: { spkiSha256: key.spkiSha256, spiffeId, notAfter: Number.POSITIVE_INFINITY },
    });
    return { issuedAt, material: { generation: 1, spiffeId, chain, key: key.privateKey, anchors: new Map([[trustDomain, trust]]) } };
  }

  /** Undefined where there is no such file; whatever else is wrong with it, too, and that is logged. */
  async function read<T>(what: string, workload: string, file: string, use: (document: unknown) => T): Promise<T | undefined> {
    try {
      const sealed = await readSmallFile(join(folder, file), largestFile);
      return use(JSON.parse(seal.open(what, workload, sealed).toString('utf8')));
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
      log.warn({ workload, file, err: error }, 'what the cache has of this workload is of no use');
      return undefined;
    }
  }

  function write(what: string, workload: string, file: string, document: object): void {
    try {
      replaceFile(join(folder, file), seal.seal(what, workload, Buffer.from(JSON.stringify(document))), 0o600);
    } catch (error) {
      log.error({ workload, err: error }, 'the cache can not be written: a restart while the servers are away would find old material');
    }
  }

  return {
    load: (workload, expected) =>
      read(purpose, workload, `${workload}.sealed`, (document) => verified(documentSchema.parse(document), expected)),
    save(workload, { material, issuedAt }) {
      const trust = material.anchors.get(trustDomain);
      if (!trust) return;
      const document: SealedDocument = {
        format: 1,
        spiffeId: material.spiffeId,
        issuedAt,
        key: privateKeyPem(material.key),
        chain: material.chain.certificates.map(encode),
        trust: { generation: trust.generation, anchors: trust.anchors.certificates.map(encode) },
      };
      write(purpose, workload, `${workload}.sealed`, document);
    },
    loadJwtBundles: (workload) =>
      read(jwtPurpose, workload, `${workload}.jwt.sealed`, (document) => new Map(Object.entries(jwtSchema.parse(document).bundles))),
    saveJwtBundles(workload, bundles) {
      write(jwtPurpose, workload, `${workload}.jwt.sealed`, { format: 1, bundles: Object.fromEntries(bundles) });
    },
  };
}

const decode = (text: string): Buffer => Buffer.from(text, 'base64');
const encode = (der: Buffer): string => der.toString('base64');

function checkFolder(folder: string): void {
  try {
    mkdirSync(folder, { mode: 0o700, recursive: true });
    const stats = lstatSync(folder);
    const own = process.geteuid?.();
    if (!stats.isDirectory()) throw invalid(`${folder} is not a folder`);
    if (own !== undefined && stats.uid !== own)
      throw invalid(`${folder} belongs to user ${String(stats.uid)}: chown it, or choose another folder`);
    if ((stats.mode & 0o077) !== 0) throw invalid(`others may enter ${folder}: chmod 0700 ${folder}`);
  } catch (error) {
    if (error instanceof SignetError) throw error;
    throw new SignetError('CONFIG_INVALID', `cache.folder: ${folder} can't be made or looked at`, { cause: error });
  }
}

function invalid(what: string): SignetError {
  return new SignetError('CONFIG_INVALID', `cache.folder: ${what}`);
}
