import { setFlagsFromString } from 'node:v8';

/**
 * To be called once the server is ready. V8 optimizes what was called three thousand times, and later still what has no
 * loops; the work of a server is short calls, so that it would sign its first ten thousand certificates with code that is half
 * optimized, for a fifth more CPU (docs/performance.md). V8 reads this number whenever it decides; another version than
 * the one that was measured keeps its own.
 *
 * Not on the command line: under switches of its own V8 takes none of the compiled code that Node brings along, which costs
 * a start 140 ms. And not before, as what runs at the start does so once.
 */
export function optimizeSooner(v8 = process.versions.v8): void {
  if (v8.startsWith('13.')) setFlagsFromString('--invocation-count-for-turbofan=1000');
}
