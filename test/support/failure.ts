import assert from 'node:assert/strict';
import { SignetError } from '../../src/base/errors.ts';

/** The SignetError that this work is refused with, at once or later; it is an error if it isn't. */
export async function failureOf(work: Promise<unknown> | (() => unknown)): Promise<SignetError> {
  try {
    await (typeof work === 'function' ? work() : work);
  } catch (error) {
    assert.ok(error instanceof SignetError, String(error));
    return error;
  }
  throw new assert.AssertionError({ message: 'it was not refused' });
}
