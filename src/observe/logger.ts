import { pino, stdTimeFunctions } from 'pino';
import type { DestinationStream } from 'pino';
import type { Log } from '../base/log.ts';
import { scrub, scrubError } from './scrub.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** By name, wherever they turn up in the fields of a line. Error texts are scrubbed by content besides. */
const secretFields = ['token', 'authorization', 'privateKey', 'private_key', 'passphrase', 'password', 'secret', 'keyPem', 'pem'];

/** JSON lines. Without a destination they go to stderr, buffered while the pipe is full and flushed at exit. */
export function createLogger(options: { readonly level: LogLevel; readonly destination?: DestinationStream }): Log {
  const logger = pino(
    {
      level: options.level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: (error: unknown) => scrubError(error) },
      redact: { paths: secretFields.flatMap((field) => [field, `*.${field}`, `*.*.${field}`]), censor: '[redacted]' },
      messageKey: 'message',
    },
    options.destination ?? pino.destination({ dest: 2, sync: false }),
  );
  return {
    debug: (fields, message) => {
      if (logger.isLevelEnabled('debug')) logger.debug(fields, scrub(message));
    },
    info: (fields, message) => {
      if (logger.isLevelEnabled('info')) logger.info(fields, scrub(message));
    },
    warn: (fields, message) => {
      logger.warn(fields, scrub(message));
    },
    error: (fields, message) => {
      logger.error(fields, scrub(message));
    },
  };
}
