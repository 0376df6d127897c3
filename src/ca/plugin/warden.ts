import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { constants } from 'node:os';

/**
 * Stands between Signet and a plugin, as the leader of the plugin's process group: `warden SOCKET GRACE_MS PROGRAM [ARG...]`.
 * Signet holds the other end of its stdin and never writes. When that end is gone, so is Signet, however it died, and a
 * plugin that lived on would hold the CA's credentials for nobody: the group is asked to end, and killed after the grace.
 */
const [socket = '', grace = '', program = '', ...args] = process.argv.slice(2);

// The group's SIGTERM is for the plugin; the warden stays until that is gone, and tells how it went.
process.on('SIGTERM', () => undefined);
process.on('SIGINT', () => undefined);

const plugin = spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit'] });
let orphaned = false;

function killGroup(): never {
  rmSync(socket, { force: true });
  process.kill(0, 'SIGKILL');
  process.exit(1);
}

function orphan(): void {
  if (orphaned) return;
  orphaned = true;
  process.kill(0, 'SIGTERM');
  setTimeout(killGroup, Number(grace));
}

process.stdin.on('end', orphan).on('error', orphan).resume();
plugin.once('error', (error) => {
  process.stderr.write(`${program} can't be started: ${error.message}\n`);
  process.exitCode = 127;
  process.stdin.destroy();
});
plugin.once('exit', (code, signal) => {
  // What else the plugin started goes with it.
  if (orphaned) killGroup();
  process.exit(code ?? 128 + (signal ? constants.signals[signal] : 0));
});
