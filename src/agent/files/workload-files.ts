import { setTimeout as sleep } from 'node:timers/promises';
import { backoffMs } from '../../base/backoff.ts';
import type { Clock, Random } from '../../base/clock.ts';
import { deadlineSignal } from '../../base/deadline.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { readSecret } from '../../base/secret-file.ts';
import type { TrustDomain } from '../../spiffe/id.ts';
import { privateKeyPem } from '../../x509/keys.ts';
import { fileNames } from '../config/files-schema.ts';
import type { FilesConfig } from '../config/files-schema.ts';
import { groupId } from '../group.ts';
import type { WorkloadMaterial, WorkloadMaterialFeed } from '../workload-material.ts';
import { runCommand } from './command.ts';
import type { CommandResult } from './command.ts';
import { openGenerationFolder } from './generation-folder.ts';
import type { GenerationFile } from './generation-folder.ts';

export interface WorkloadFiles {
  /** Gives a command that runs `graceMs` to end, then ends it. What is in the folder stays. */
  close(graceMs: number): Promise<void>;
}

/** What happened to them, for metrics. */
export interface FilesEvents {
  written(workload: string): void;
  writeFailed(workload: string): void;
  commandEnded(workload: string, result: CommandResult): void;
}

const writeMs = 30_000;
const retry = { baseMs: 1000, maxMs: 60_000 };
/** Whoever had found the generation before this one is in the middle of reading it for no longer. */
const readersMs = 1000;

/**
 * Keeps a folder of files as the workload's material is, and runs a command after each change of it. One thing at a time:
 * the next generation comes after the command has ended, so a server that reloads in the command reads one generation.
 * Throws CONFIG_INVALID.
 */
export async function openWorkloadFiles(parts: {
  readonly workload: string;
  /** Of the setting, for messages: `workloads[2].files`. */
  readonly where: string;
  readonly config: FilesConfig;
  readonly trustDomain: TrustDomain;
  readonly feed: WorkloadMaterialFeed;
  readonly events: FilesEvents;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}): Promise<WorkloadFiles> {
  const { workload, where, config, trustDomain, feed, events, clock, random, log } = parts;
  const { pkcs12, command } = config;
  const gid = config.group === undefined ? undefined : await groupId(`${where}.group`, config.group);
  const folder = await openGenerationFolder(
    {
      setting: `${where}.folder`,
      folder: config.folder,
      mode: gid === undefined ? 0o700 : 0o750,
      gid,
      entrant: `the workload ${workload}`,
    },
    fileNames(config),
  );
  if (pkcs12) await password(pkcs12.passwordFile);

  const closing = new AbortController();
  const commandEnd = new AbortController();
  let wake: (() => void) | undefined;
  let written: WorkloadMaterial | undefined;
  let failures = 0;

  async function password(file: string): Promise<string> {
    return readSecret(`${where}.pkcs12.passwordFile`, file);
  }

  async function filesOf({ chain, key, anchors }: WorkloadMaterial): Promise<GenerationFile[]> {
    const trust = anchors.get(trustDomain);
    if (!trust) throw new SignetError('INTERNAL', 'material without its own anchors');
    const files: GenerationFile[] = [
      { name: config.certificate, content: chain.pems.join(''), secret: false },
      { name: config.key, content: privateKeyPem(key), secret: true },
      { name: config.bundle, content: trust.anchors.pem, secret: false },
    ];
    if (!pkcs12) return files;
    // Only those who ask for it load the library.
    const [{ keyStore, trustStore }, secret] = await Promise.all([import('../../x509/pkcs12.ts'), password(pkcs12.passwordFile)]);
    const store = keyStore({ key, chain: chain.certificates, name: pkcs12.alias }, secret);
    files.push({ name: pkcs12.keyStore, content: store, secret: true });
    files.push({ name: pkcs12.trustStore, content: trustStore(trust.anchors.certificates, secret), secret: false });
    return files;
  }

  async function write(material: WorkloadMaterial): Promise<void> {
    const signal = deadlineSignal(writeMs, closing.signal);
    await folder.replace(await filesOf(material), signal);
    written = material;
    failures = 0;
    events.written(workload);
    log.info({ workload, folder: config.folder, serial: material.chain.serial, generation: material.generation }, 'files written');
  }

  async function run({ spiffeId, chain }: WorkloadMaterial): Promise<void> {
    if (!command) return;
    const environment = { SIGNET_SPIFFE_ID: spiffeId, SIGNET_FILES_FOLDER: config.folder, SIGNET_SERIAL: chain.serial };
    const startedAt = clock.now();
    const [first = '', ...rest] = command;
    const outcome = await runCommand({ argv: [first, ...rest], timeoutMs: config.commandTimeout }, environment, commandEnd.signal);
    events.commandEnded(workload, outcome.result);
    const fields = { workload, command: first, ...outcome, ms: clock.now() - startedAt };
    if (outcome.result === 'ok') log.info(fields, 'the command after new files is done');
    else log.error(fields, 'the command after new files failed; it is run again after the next renewal');
  }

  const stopped = (): boolean => closing.signal.aborted;

  /** Never rejects. */
  async function keep(): Promise<void> {
    while (!stopped()) {
      const material = feed.current();
      // What has ended helps nobody: what is there stays until there is something better.
      if (!material || material === written || material.chain.notAfter <= clock.now()) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        continue;
      }
      try {
        await write(material);
        await run(material);
        await pause(readersMs);
        await clean();
      } catch (error) {
        if (stopped()) return;
        events.writeFailed(workload);
        log.error({ workload, folder: config.folder, err: error, failures: failures + 1 }, 'files can not be written; the old ones stay');
        await pause(backoffMs(failures++, retry, random));
      }
    }
  }

  async function clean(): Promise<void> {
    try {
      await folder.clean();
    } catch (error) {
      log.warn({ workload, folder: config.folder, err: error }, 'old files can not be removed');
    }
  }

  async function pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: closing.signal }).catch(() => undefined);
  }

  // What a crash left behind.
  await clean();
  const unsubscribe = feed.subscribe(() => wake?.());
  const kept = keep();
  return {
    async close(graceMs) {
      unsubscribe();
      closing.abort(new SignetError('CANCELLED', 'the agent is stopping'));
      wake?.();
      const timer = setTimeout(() => {
        commandEnd.abort();
      }, graceMs);
      await kept;
      clearTimeout(timer);
    },
  };
}
