import { setFlagsFromString } from 'node:v8';

/**
 * To be called once the server is ready. V8 optimizes what was called three thousand times, and what has no loops later
 * still; the work of a server is short calls, so that its first ten thousand certificates would be signed by code that is half
 * optimized. What it gives and takes is in docs/performance.md. V8 reads this number whenever it decides; another version
 * than the one that was measured keeps its own.
 *
 * Not on the command line, where it costs a start 140 ms: V8 then compiles what of Node's own code it else finds compiled.
 */
export function optimizeSooner(): void {
  if (process.versions.v8.startsWith('13.')) setFlagsFromString('--invocation-count-for-turbofan=1000');
}
