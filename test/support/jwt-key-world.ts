import { keySealFromKey, newKeyEncryptionKey } from '../../src/ca/key-seal.ts';
import { parseTrustDomain } from '../../src/spiffe/id.ts';
import { openJwtKeys } from '../../src/trust/jwt-keys.ts';
import type { JwtKeys, JwtKeysDeps } from '../../src/trust/jwt-keys.ts';
import { recordingLog } from './recording-log.ts';
import { simulatedClock } from './simulated-clock.ts';

export const hint = 60_000;
const pollMs = hint / 4;
export const settings: JwtKeysDeps['settings'] = { keyLifeMs: 60 * hint, refreshHintMs: hint, longestTokenMs: 5 * hint };
const kek = newKeyEncryptionKey();

/** One process that shares the store with others. */
export interface KeyHolder {
  readonly keys: JwtKeys;
  /** The store can't be reached from here. */
  away: boolean;
  close(): void;
}

/** Processes with JWT signing keys, a store that they share, and a clock that moves, and is set, when told to. */
export function jwtKeyWorld() {
  const clock = simulatedClock();
  const log = recordingLog();
  const documents = new Map<string, { epoch: number; value: Buffer }>();
  const holders = new Set<KeyHolder>();
  /** When each key first came into the store, by the time that nobody sets. */
  const writtenAt = new Map<string, number>();
  let elapsed = 0;
  let writes = 0;
  let writeTakesMs = 0;

  async function open(changes: Partial<JwtKeysDeps> = {}): Promise<KeyHolder> {
    const reach = <T>(work: () => T): Promise<T> =>
      holder.away ? Promise.reject(new Error('the store is away')) : Promise.resolve().then(work);
    const holder = {
      away: false,
      close() {
        holders.delete(holder);
        holder.keys.close();
      },
    } as { -readonly [K in keyof KeyHolder]: KeyHolder[K] };
    holder.keys = await openJwtKeys({
      state: {
        read: (name) => reach(() => documents.get(name)),
        compareAndSet: (name, expected, value) =>
          reach(() => {
            stall(writeTakesMs);
            if ((documents.get(name)?.epoch ?? 0) !== expected) return false;
            documents.set(name, { epoch: expected + 1, value });
            writes++;
            for (const [, keyId = ''] of value.toString().matchAll(/"keyId":"([^"]+)"/g)) {
              if (!writtenAt.has(keyId)) writtenAt.set(keyId, elapsed);
            }
            return true;
          }),
      },
      seal: keySealFromKey(kek),
      trustDomain: parseTrustDomain('test.example'),
      clock,
      elapsed: () => elapsed,
      log,
      settings,
      ...changes,
    });
    holders.add(holder);
    return holder;
  }

  /** Both clocks move, and nobody gets to look after its keys. */
  function stall(ms: number): void {
    clock.advance(ms);
    elapsed += ms;
  }

  /** Both clocks move; each process looks after its keys as often as its own timer would have it. */
  async function pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= pollMs) {
      const step = Math.min(left, pollMs);
      stall(step);
      // One that can't reach the store tries again the next time.
      await Promise.allSettled([...holders].map(({ keys }) => keys.refresh()));
    }
  }

  return {
    clock,
    log,
    documents,
    writtenAt,
    open,
    pass,
    stall,
    writesTake(ms: number): void {
      writeTakesMs = ms;
    },
    /** Somebody sets the clock. */
    jump: (ms: number): void => {
      clock.advance(ms);
    },
    elapsed: () => elapsed,
    writes: () => writes,
    close() {
      for (const holder of [...holders]) holder.close();
    },
  };
}
