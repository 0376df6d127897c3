/** A document of CA state (keys sealed) with an epoch: what `ca` needs of a store, and all it needs. */
export interface CaState {
  read(name: string): Promise<{ readonly epoch: number; readonly value: Buffer } | undefined>;
  /** Writes only if the epoch is still `expected` (0: it doesn't exist yet). Durable when it resolves; false if it lost. */
  compareAndSet(name: string, expected: number, value: Buffer): Promise<boolean>;
}
