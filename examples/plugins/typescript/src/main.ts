import { ServerCredentials } from '@grpc/grpc-js';
import { createService } from './service.ts';

/** Signet hands the socket's path over; `main.ts FOLDER SOCKET` listens by itself, for a plugin that Signet doesn't start. */
const [folder, socket = process.env['SIGNET_PLUGIN_SOCKET']] = process.argv.slice(2);
if (folder === undefined || socket === undefined) {
  console.error(
    'usage: node src/main.ts FOLDER [SOCKET]\n\nFOLDER keeps the key; SOCKET is where to listen, unless SIGNET_PLUGIN_SOCKET says.',
  );
  process.exit(2);
}

const { server, close } = createService({ folder, mostPerSecond: Number(process.env['MOST_PER_SECOND'] ?? 0) });

server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) => {
  if (error) {
    console.error(`can't listen on ${socket}: ${error.message}`);
    process.exit(1);
  }
  console.error('ready');
});

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => {
    void close().then(() => process.exit(0));
  });
}
