import { fileURLToPath } from 'node:url';
import { systemClock } from '../../src/base/clock.ts';
import { commandSource } from '../../src/ca/plugin/command-source.ts';

/** A process that keeps a plugin as Signet does, to be killed: `plugin-keeper RUN_FOLDER CA_FOLDER`. It prints what the plugin says. */
const [run = '', ca = ''] = process.argv.slice(2);
const program = fileURLToPath(new URL('./plugin-program.ts', import.meta.url));
const said = (_fields: object, message: string): void => {
  console.log(message);
};
const source = commandSource({
  name: 'kept',
  command: [process.execPath, program, 'stubborn', ca],
  environment: {},
  folder: run,
  clock: systemClock,
  log: { debug: said, info: said, warn: said, error: said },
  graceMs: 300,
});
await source.acquire(new AbortController().signal);
console.log('up');
setInterval(() => undefined, 1000);
