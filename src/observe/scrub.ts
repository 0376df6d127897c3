/** What must not be in a log even by mistake: tokens, private keys, long runs of base64 that could be either. */
const secrets: readonly (readonly [RegExp, string])[] = [
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[^]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g, '[private key]'],
  // A JWT's header is a JSON object, so in base64url it starts like this.
  [/\beyJ[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*){0,4}/g, '[token]'],
  [/[A-Za-z0-9+/_-]{200,}={0,2}/g, '[long text]'],
];
const longestText = 4096;

export function scrub(text: string): string {
  const short = text.length > longestText ? `${text.slice(0, longestText)}...` : text;
  return secrets.reduce((clean, [pattern, instead]) => clean.replace(pattern, instead), short);
}

export interface ScrubbedError {
  readonly type: string;
  readonly message: string;
  readonly code?: string;
  readonly stack?: string;
  readonly cause?: ScrubbedError;
}

const deepestCause = 5;

/** An error as it is logged, with its causes. Other properties stay out: libraries hang whole requests on their errors. */
export function scrubError(error: unknown, depth = 0): ScrubbedError {
  if (!(error instanceof Error)) return { type: typeof error, message: scrub(typeof error === 'string' ? error : 'not an error') };
  const code = 'code' in error && (typeof error.code === 'string' || typeof error.code === 'number') ? String(error.code) : undefined;
  return {
    type: error.name,
    message: scrub(error.message),
    ...(code === undefined ? {} : { code }),
    ...(error.stack === undefined ? {} : { stack: scrub(error.stack) }),
    ...(error.cause === undefined || depth >= deepestCause ? {} : { cause: scrubError(error.cause, depth + 1) }),
  };
}
