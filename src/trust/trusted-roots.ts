import { watch } from 'node:fs';
import type { FSWatcher } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { certificatesFromPem } from '../x509/pem.ts';
import { readChanged, readRootsFile } from './roots-file.ts';
import type { TrustBundle } from './trust-bundle.ts';

export interface TrustedRoots {
  /** Looks at every file now; resolves when what changed has been taken up or refused. */
  check(): Promise<void>;
  close(): void;
}

export interface TrustedRootsDeps {
  /** PEM files of CA certificates. */
  readonly files: readonly string[];
  readonly trust: Pick<TrustBundle, 'setSource' | 'hasSource'>;
  readonly log: Log;
  /** How often the files are looked at even if nothing is heard of a change (network file systems say nothing). Default 10 s. */
  readonly pollMs?: number;
}

/** A swap of symbolic links is over by then, and a folder that never rests costs no more than so many looks. */
const settleMs = 20;

/** The source in the trust bundle that a file of roots is; no other kind of source begins with `file:`. */
export function rootsSource(file: string): string {
  return `file:${file}`;
}

/**
 * Further roots from files, read again when they change. A bad file is refused and what it last held that was good stays
 * trusted. Throws CONFIG_INVALID at the start if a file is bad and was never good: a typing error must not go unseen.
 */
export async function watchTrustedRoots(deps: TrustedRootsDeps): Promise<TrustedRoots> {
  const closing = new AbortController();
  const files = deps.files.map((path) => createRootsFile(path, deps, closing.signal));
  for (const file of files) await file.load();
  const watchers = [...new Set(deps.files.map((path) => dirname(path)))].flatMap((folder) => watchFolder(folder, deps.log, soon));
  const poll = setInterval(() => void check(), deps.pollMs ?? 10_000);
  poll.unref();
  let settling: NodeJS.Timeout | undefined;
  let looking: Promise<void> | undefined;
  let following: Promise<void> | undefined;

  /** At the first event now. Others may follow, as in a swap of symbolic links: for all of them once more, a moment later. */
  function soon(): void {
    if (settling || closing.signal.aborted) return;
    settling = setTimeout(() => {
      settling = undefined;
      void check();
    }, settleMs);
    settling.unref();
    void check();
  }

  /** A change during a look may have been missed by it: one more follows. */
  function check(): Promise<void> {
    const before = looking;
    const mine = before ? (following ??= before.then(look)) : look();
    if (!before) looking = mine;
    return mine;
  }

  async function look(): Promise<void> {
    await Promise.all(files.map((file) => file.check()));
    looking = following;
    following = undefined;
  }

  return {
    check,
    close() {
      closing.abort(new SignetError('CANCELLED', 'the server is stopping'));
      clearTimeout(settling);
      clearInterval(poll);
      for (const watcher of watchers) watcher.close();
    },
  };
}

interface RootsFile {
  load(): Promise<void>;
  /** Never rejects. */
  check(): Promise<void>;
}

function createRootsFile(path: string, { trust, log }: TrustedRootsDeps, closing: AbortSignal): RootsFile {
  const source = rootsSource(path);
  /** What was last judged, good or bad, so that each content is judged and complained of once. */
  let judged: Buffer | undefined;
  let complaint: string | undefined;

  async function take(content: Buffer): Promise<void> {
    await trust.setSource(source, certificatesFromPem(content.toString('latin1')));
    judged = content;
    complaint = undefined;
  }

  function complain(error: SignetError): void {
    if (complaint === error.message) return;
    complaint = error.message;
    log.error({ file: path, reason: error.message }, 'trusted roots file refused; its last good roots stay trusted');
  }

  return {
    async load() {
      try {
        await take(await readRootsFile(path, closing));
      } catch (error) {
        const reason = SignetError.from(error);
        if (reason.code !== 'INVALID_ARGUMENT' && reason.code !== 'TOO_LARGE') throw reason;
        if (!trust.hasSource(source))
          throw new SignetError('CONFIG_INVALID', `trusted roots file ${path}: ${reason.message}`, { cause: error });
        complain(reason);
      }
    },
    async check() {
      try {
        const content = await readChanged(path, judged, closing, (ms) => delay(ms, undefined, { signal: closing }));
        if (!content) {
          complaint = undefined;
          return;
        }
        await take(content);
        log.info({ file: path }, 'trusted roots file taken up');
      } catch (error) {
        if (!closing.aborted) complain(SignetError.from(error));
      }
    },
  };
}

/** The folder, not the file: a file that is replaced takes its watcher with it. */
function watchFolder(folder: string, log: Log, changed: () => void): FSWatcher[] {
  try {
    const watcher = watch(folder, { persistent: false }, changed);
    watcher.on('error', (error) => {
      log.warn({ folder, err: error }, 'a folder of trusted roots can no longer be watched; it is looked at now and then');
      watcher.close();
    });
    return [watcher];
  } catch (error) {
    log.warn({ folder, err: error }, 'a folder of trusted roots cannot be watched; it is looked at now and then');
    return [];
  }
}
