import { systemClock } from '../../src/base/clock.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite-store.ts';
import { silentLog } from './silent-log.ts';
import { issuedRecord } from './store-suite.ts';

/**
 * A program for crash tests: `store-writer.ts FILE` appends certificates, several at a time, and prints the serial of
 * each once the store has acknowledged it, until it is killed.
 */
const [, , file = ''] = process.argv;
const store = await openSqliteStore({ file, clock: systemClock, log: silentLog });

async function write(): Promise<never> {
  for (;;) {
    const record = issuedRecord();
    await store.appendIssued([record]);
    process.stdout.write(`${record.serial}\n`);
  }
}

await Promise.all(Array.from({ length: 8 }, write));
