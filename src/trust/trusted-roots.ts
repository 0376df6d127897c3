import { watch } from 'node:fs';
import type { FSWatcher } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { certificatesFromPem } from '../x509/pem.ts';
import { createRootsReader } from './roots-file.ts';
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

/** Long enough for the several events of one swap of symbolic links; a file that is still being written is waited for besides. */
const settleMs = 5;
/** In a folder that never comes to rest. */
const longestSettlingMs = 100;

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
  let unsettledSince = 0;
  let looking: Promise<void> | undefined;
  let following: Promise<void> | undefined;

  /**
   * A swap of symbolic links is several events: one look, a moment after the last, is enough. A file that was moved into its
   * place needs no such moment.
   */
  function soon(path: string): void {
    if (closing.signal.aborted) return;
    if (deps.files.includes(path)) looking ??= look((file) => file.glance());
    const now = performance.now();
    if (!settling) unsettledSince = now;
    clearTimeout(settling);
    settling = setTimeout(
      () => {
        settling = undefined;
        void check();
      },
      Math.max(0, Math.min(settleMs, unsettledSince + longestSettlingMs - now)),
    );
    settling.unref();
  }

  /** A change during a look may have been missed by it: one more follows. */
  function check(): Promise<void> {
    const whole = (): Promise<void> => look((file) => file.check());
    const before = looking;
    const mine = before ? (following ??= before.then(whole)) : whole();
    if (!before) looking = mine;
    return mine;
  }

  async function look(one: (file: RootsFile) => Promise<void>): Promise<void> {
    await Promise.all(files.map(one));
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
  /** Takes up a whole new file, and lets everything else be: it may be no more than a moment of a change. Never rejects. */
  glance(): Promise<void>;
  /** Takes up what is there, or complains of it. Never rejects. */
  check(): Promise<void>;
}

function createRootsFile(path: string, { trust, log }: TrustedRootsDeps, closing: AbortSignal): RootsFile {
  const source = rootsSource(path);
  const reader = createRootsReader(path, closing, (ms) => delay(ms, undefined, { signal: closing }));
  /** What was last good. */
  let taken: Buffer | undefined;
  /** The last one, so that each is made once. */
  let complaint: string | undefined;

  async function take(content: Buffer): Promise<void> {
    // Of a configuration that is no longer in force: who follows reads it again.
    closing.throwIfAborted();
    await trust.setSource(source, certificatesFromPem(content.toString('latin1')));
    taken = content;
    complaint = undefined;
  }

  async function takeIfNew(content: Buffer): Promise<void> {
    if (taken?.equals(content)) {
      complaint = undefined;
      return;
    }
    await take(content);
    log.info({ file: path }, 'trusted roots file taken up');
  }

  function complain(error: SignetError): void {
    if (complaint === error.message) return;
    complaint = error.message;
    log.error({ file: path, reason: error.message }, 'trusted roots file refused; its last good roots stay trusted');
  }

  return {
    async load() {
      try {
        await take(await reader.read());
      } catch (error) {
        const reason = SignetError.from(error);
        if (reason.code !== 'INVALID_ARGUMENT' && reason.code !== 'TOO_LARGE') throw reason;
        if (!trust.hasSource(source))
          throw new SignetError('CONFIG_INVALID', `trusted roots file ${path}: ${reason.message}`, { cause: error });
        complain(reason);
      }
    },
    async glance() {
      try {
        const content = await reader.readReplaced();
        if (content) await takeIfNew(content);
      } catch {
        // What is wrong is said by the look that follows, if it still is.
      }
    },
    async check() {
      try {
        await takeIfNew(await reader.readStable(taken));
      } catch (error) {
        if (!closing.aborted) complain(SignetError.from(error));
      }
    },
  };
}

/** The folder, not the file: a file that is replaced takes its watcher with it. */
function watchFolder(folder: string, log: Log, changed: (path: string) => void): FSWatcher[] {
  try {
    const watcher = watch(folder, { persistent: false }, (_event, name) => {
      changed(join(folder, name ?? ''));
    });
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
