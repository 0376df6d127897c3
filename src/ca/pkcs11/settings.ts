import { z } from 'zod';
import { count, path } from '../../config/fields.ts';

export const pkcs11Settings = z
  .strictObject({
    type: z.literal('pkcs11'),
    module: path().describe("The vendor's PKCS#11 library, a shared object. It is loaded into a process of its own."),
    tokenLabel: z.string().min(1).max(32).optional().describe('The label of the token that has the key. Either this or `slot`.'),
    slot: z.int().min(0).optional().describe('The number of the slot instead; with some vendors it changes with each start.'),
    keyLabel: z.string().min(1).max(255).optional().describe("The private key's CKA_LABEL. This or `keyId`, or both."),
    keyId: z
      .string()
      .regex(/^(?:[0-9a-f]{2}){1,64}$/, 'must be the CKA_ID in hex, lower case')
      .optional()
      .describe("The private key's CKA_ID in hex."),
    pinFile: path().optional().describe("File of the user's PIN, read again at each login. Either this or `pinEnvironment`."),
    pinEnvironment: z
      .string()
      .regex(/^[A-Z_][A-Z0-9_]{0,99}$/, 'must be the name of an environment variable')
      .optional()
      .describe("The environment variable that holds the user's PIN."),
    sessions: count(128).prefault(16).describe('How many signatures the token makes at the same time; as many sessions are open.'),
  })
  .superRefine((settings, context) => {
    const exactlyOne = [
      ['tokenLabel', 'slot'],
      ['pinFile', 'pinEnvironment'],
    ] as const;
    for (const [first, second] of exactlyOne) {
      if ((settings[first] === undefined) === (settings[second] === undefined))
        context.addIssue({ code: 'custom', path: [first], message: `give exactly one of ${first} and ${second}` });
    }
    if (settings.keyLabel === undefined && settings.keyId === undefined)
      context.addIssue({ code: 'custom', path: ['keyLabel'], message: 'give keyLabel, keyId, or both' });
  });

export type Pkcs11Settings = z.output<typeof pkcs11Settings>;
