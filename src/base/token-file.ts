import { SignetError } from './errors.ts';
import { readSmallFile } from './small-file.ts';

const largestToken = 16 * 1024;

/** A bearer token from its file, with or without a newline at its end. Errors name the file and never its content. */
export async function readToken(file: string): Promise<string> {
  const token = (await readSmallFile(file, largestToken)).toString('latin1').trim();
  if (/^[A-Za-z0-9._~+/-]+=*$/.test(token)) return token;
  throw new SignetError('INVALID_ARGUMENT', `${file} holds no token`);
}
