import { fileURLToPath } from 'node:url';

/** The folder of our .proto files: beside src/ in a checkout and beside dist/ in the installed package. */
export const protoRoot: string = fileURLToPath(new URL('../../proto/', import.meta.url));
