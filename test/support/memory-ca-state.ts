import type { CaState } from '../../src/ca/ca-state.ts';

export interface MemoryCaState extends CaState {
  readonly documents: Map<string, { epoch: number; value: Buffer }>;
}

/** CA state as a store keeps it, without a store; each call takes a turn of the event loop, as a store's does. */
export function memoryCaState(): MemoryCaState {
  const documents = new Map<string, { epoch: number; value: Buffer }>();
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  return {
    documents,
    async read(name) {
      await turn();
      const found = documents.get(name);
      return found && { epoch: found.epoch, value: Buffer.from(found.value) };
    },
    async compareAndSet(name, expected, value) {
      await turn();
      if ((documents.get(name)?.epoch ?? 0) !== expected) return false;
      documents.set(name, { epoch: expected + 1, value: Buffer.from(value) });
      return true;
    },
  };
}
