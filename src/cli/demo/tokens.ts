import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { dataFolderPaths } from '../../store/data-folder.ts';
import { replaceFile } from '../../store/atomic-file.ts';
import { openDataFolderIssuer } from '../dev-issuer-file.ts';
import { printFailure } from '../failure.ts';
import { pause } from '../pause.ts';
import type { Session } from '../session.ts';

export interface TokensSettings {
  readonly data: string;
  readonly namespace: string;
  readonly out: string;
  readonly serviceAccounts: readonly string[];
}

const tokenLifeMs = 3_600_000;
const retryMs = 5000;

/**
 * What the kubelet does for pods: each service account has a folder with a token that is always fresh, and beside it what
 * the server is pinned to. Stays until interrupted.
 */
export async function keepTokens(settings: TokensSettings, { terminal, clock }: Session): Promise<void> {
  const signal = terminal.interrupted();
  await writeAll(settings, clock);
  for (let failed = false; ; ) {
    await pause(failed ? retryMs : tokenLifeMs / 2, signal);
    if (signal.aborted) return;
    try {
      await writeAll(settings, clock);
      failed = false;
    } catch (error) {
      failed = true;
      printFailure(terminal, error);
    }
  }
}

async function writeAll({ data, namespace, out, serviceAccounts }: TokensSettings, clock: Session['clock']): Promise<void> {
  const issuer = await openDataFolderIssuer(data, clock);
  const anchor = await readFile(dataFolderPaths(data).serverCa);
  for (const serviceAccount of serviceAccounts) {
    const folder = join(out, serviceAccount);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    replaceFile(join(folder, 'server-ca.pem'), anchor, 0o644);
    replaceFile(join(folder, 'token'), await issuer.mint({ namespace, serviceAccount, audience: 'signet', ttlMs: tokenLifeMs }));
  }
}
