import { writeFile } from 'node:fs/promises';
import { createTrustVersions } from '../../src/agent/trust-versions.ts';
import { createWorkload } from '../../src/agent/workload.ts';
import type { Workload } from '../../src/agent/workload.ts';
import { files as filesSchema } from '../../src/agent/config/files-schema.ts';
import { openWorkloadFiles } from '../../src/agent/files/workload-files.ts';
import type { WorkloadFiles } from '../../src/agent/files/workload-files.ts';
import { systemClock } from '../../src/base/clock.ts';
import { parseTrustDomain } from '../../src/spiffe/id.ts';
import { fakeUpstream } from './fake-upstream.ts';
import type { FakeUpstream } from './fake-upstream.ts';
import { recordingLog } from './recording-log.ts';
import type { RecordingLog } from './recording-log.ts';
import { silentLog } from './silent-log.ts';
import { tempFolder } from './temp.ts';
import type { TempFolder } from './temp.ts';

export const filesId = 'spiffe://td.test/ns/shop/sa/web';

/** A workload whose certificates a fake server signs, and the real code that writes them to files. */
export interface FilesWorld extends AsyncDisposable {
  readonly temp: TempFolder;
  readonly folder: string;
  readonly upstream: FakeUpstream;
  readonly workload: Workload;
  readonly log: RecordingLog;
  /** `written`, `failed`, or how a command ended, in their order. */
  readonly events: string[];
  /** With these settings over `folder`. */
  open(settings?: object): Promise<WorkloadFiles>;
}

export async function filesWorld(): Promise<FilesWorld> {
  const temp = await tempFolder();
  const trustDomain = parseTrustDomain('td.test');
  const tokenFile = temp.file('token');
  await writeFile(tokenFile, 'first.token');
  const upstream = fakeUpstream(filesId);
  const workload = createWorkload({
    name: 'web',
    trustDomain,
    tokenFile,
    keyType: 'ec-p256',
    spiffeId: undefined,
    renewByCertificate: true,
    upstream,
    trustVersions: createTrustVersions(systemClock),
    initial: undefined,
    keep: () => undefined,
    renewed: () => undefined,
    clock: systemClock,
    log: silentLog,
  });
  const log = recordingLog();
  const events: string[] = [];
  const opened: WorkloadFiles[] = [];
  const folder = temp.file('tls');
  return {
    temp,
    folder,
    upstream,
    workload,
    log,
    events,
    async open(settings = {}) {
      const files = await openWorkloadFiles({
        workload: 'web',
        where: 'workloads[0].files',
        config: filesSchema.parse({ folder, ...settings }),
        trustDomain,
        feed: workload.feed,
        events: {
          written: () => events.push('written'),
          writeFailed: () => events.push('failed'),
          commandEnded: (_, result) => events.push(result),
        },
        clock: systemClock,
        random: Math.random,
        log,
      });
      opened.push(files);
      return files;
    },
    async [Symbol.asyncDispose]() {
      for (const files of opened) await files.close(0);
      workload.close();
      await temp[Symbol.asyncDispose]();
    },
  };
}
