import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../../src/base/clock.ts';
import { openSqliteStore } from '../../../src/store/sqlite/sqlite-store.ts';
import { silentLog } from '../../support/silent-log.ts';
import { storeSuite } from '../../support/store-suite.ts';

storeSuite({
  name: 'SQLite',
  shared: false,
  async make() {
    const directory = await mkdtemp(join(tmpdir(), 'signet-store-'));
    return {
      open: () => openSqliteStore({ file: join(directory, 'signet.db'), clock: systemClock, log: silentLog }),
      dispose: () => rm(directory, { recursive: true }),
    };
  },
});
