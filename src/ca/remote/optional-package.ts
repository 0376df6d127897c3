import { SignetError } from '../../base/errors.ts';

/**
 * Loads a library that only some installations need, and that is therefore not installed with Signet. Throws
 * AUTHORITY_MISCONFIGURED saying what to install.
 */
export async function loadOptionalPackage<T>(needed: string, packages: readonly string[], load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ERR_MODULE_NOT_FOUND')) throw error;
    throw new SignetError(
      'AUTHORITY_MISCONFIGURED',
      `${needed} needs a library that is not installed: npm install ${packages.join(' ')}, where signet-sds is installed`,
      { cause: error },
    );
  }
}
