import { SignetError } from '../../base/errors.ts';

/** Primary result codes (https://www.sqlite.org/rescode.html); the extended ones carry them in the low byte. */
/** A statement that does not fit the schema. */
const generic = 1;
const busy = 5;
const locked = 6;
const corrupt = 11;
const notADatabase = 26;

/** The primary SQLite result code of an error, if it is one of node:sqlite's. */
export function sqliteCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return undefined;
  return error.errcode & 0xff;
}

/** What a failed read or write is to the rest of the program. The messages name no paths: a client may see them. */
export function storeFailure(error: unknown): SignetError {
  if (error instanceof SignetError) return error;
  const code = sqliteCode(error);
  if (code === corrupt || code === notADatabase) return new SignetError('STORE_CORRUPT', 'the database is damaged', { cause: error });
  if (code === busy || code === locked)
    return new SignetError('STORE_LOCKED', 'the database is locked by another process', { cause: error });
  return new SignetError('INTERNAL', 'the store failed', { cause: error });
}

/** A read, which SQLite does at once, as the promise that the interface wants; its errors are ours. */
export function answer<T>(read: () => T): Promise<T> {
  return new Promise((resolve) => {
    try {
      resolve(read());
    } catch (error) {
      throw storeFailure(error);
    }
  });
}

/** What a failure to open is to the operator, who does see the path. */
export function openFailure(error: unknown, file: string): SignetError {
  if (error instanceof SignetError) return error;
  const code = sqliteCode(error);
  if (code === busy || code === locked) {
    return new SignetError(
      'STORE_LOCKED',
      `${file} is in use by another process: one Signet server runs on a data folder. Stop the other one, or give this one a folder of its own`,
      { cause: error },
    );
  }
  if (code === corrupt || code === notADatabase || code === generic) return damaged(file, error);
  return new SignetError(
    'CONFIG_INVALID',
    `the database ${file} can't be opened: check that its folder exists, is writable by this user and has free space`,
    { cause: error },
  );
}

export function damaged(file: string, cause: unknown): SignetError {
  return new SignetError(
    'STORE_CORRUPT',
    `${file} is damaged. Keep a copy of it and of its -wal file, then restore the last backup; without one, start with an empty folder: new CAs are made, and clients need the new server-ca.pem`,
    { cause },
  );
}
