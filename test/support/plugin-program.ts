import { ServerCredentials } from '@grpc/grpc-js';
import { spawn } from 'node:child_process';
import { createService } from '../../examples/plugins/typescript/src/service.ts';

/**
 * The TypeScript template with bad manners, as a program: `plugin-program MANNER FOLDER`. It tells its process id, and that of
 * its child, on stderr.
 */
const [manner = '', folder = ''] = process.argv.slice(2);
const socket = process.env['SIGNET_PLUGIN_SOCKET'] ?? '';

function sayPid(what: string, pid: number | undefined): void {
  console.error(`${what}=${String(pid)}`);
}

function serve(): void {
  createService({ folder, mostPerSecond: 0 }).server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) => {
    if (error) throw error;
    sayPid('pid', process.pid);
  });
}

switch (manner) {
  case 'good':
    serve();
    break;
  // Ends for nobody, and neither does what it started.
  case 'stubborn': {
    process.on('SIGTERM', () => undefined);
    const child = spawn(process.execPath, ['-e', "process.on('SIGTERM', () => {}); setInterval(() => {}, 1000); console.error('deaf')"], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    child.stderr.once('data', () => {
      sayPid('child', child.pid);
      serve();
    });
    break;
  }
  case 'silent':
    sayPid('pid', process.pid);
    setInterval(() => undefined, 1000);
    break;
  case 'telling':
    console.error(`environment ${JSON.stringify(process.env)}`);
    serve();
    break;
  case 'dying':
    console.error('no licence found');
    process.exit(3);
}
