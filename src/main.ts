import { fileURLToPath } from 'node:url';
import { compileCacheFolder, useCompileCache } from './cli/compile-cache.ts';
import { scrubError } from './observe/scrub.ts';
import { cipherSuites } from './server/cipher-suites.ts';

/**
 * What must be so before anything else is loaded: grpc-js reads its cipher suites when it is imported, and V8 its young
 * generation when it starts. A long-running role therefore starts Node over, in the same process (same pid, same
 * descriptors), with a small young generation: it halves p99 and memory, and setting it later has no effect.
 */
const longRunning = new Set(['server', 'agent']);
const nodeFlags = ['--max-semi-space-size=8', '--disable-warning=ExperimentalWarning'];
// Set for the second start, so that there is never a third.
const startedOver = 'SIGNET_STARTED_OVER';

function startOver(argv: readonly string[]): void {
  const [role, ...rest] = argv;
  const again = process.env[startedOver] !== undefined;
  Reflect.deleteProperty(process.env, startedOver);
  if (again || role === undefined || !longRunning.has(role) || rest.includes('--help') || rest.includes('-h')) return;
  if (process.execArgv.some((flag) => flag.startsWith('--max-semi-space-size'))) return;
  const main = fileURLToPath(import.meta.url);
  try {
    process.execve?.(process.execPath, [process.execPath, ...process.execArgv, ...nodeFlags, main, ...argv], {
      ...process.env,
      [startedOver]: '1',
    });
  } catch {
    // Not on this platform: it runs as it is.
  }
}

process.env.GRPC_SSL_CIPHER_SUITES ??= cipherSuites;
// What nobody foresaw ends the process, as it should; what it says goes the way of every log line, without secrets.
process.on('uncaughtException', (error) => {
  process.stderr.write(`${JSON.stringify({ level: 'error', message: 'internal error: the process ends', err: scrubError(error) })}\n`);
  process.exit(1);
});
const argv = process.argv.slice(2);
startOver(argv);
useCompileCache(compileCacheFolder(process.env));
const { run } = await import('./cli/program.ts');
process.exitCode = await run(argv);
// What a command left behind (a keepalive, an idle socket) must not keep the terminal. Pipes take output synchronously.
process.stdout.write('', () => process.exit());
