import { z } from 'zod';
import { address, duration, path } from '../../config/fields.ts';
import { anchorFields } from '../anchor-settings.ts';

const variable = () => z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,99}$/, 'must be the name of an environment variable');
/** Ours may hold what seals the CA keys. */
const foreignVariable = () => variable().regex(/^(?!SIGNET_)/, "Signet's own variables are not handed on");

export const pluginSettings = z
  .strictObject({
    type: z.literal('plugin'),
    command: z
      .array(z.string().max(4096))
      .min(1)
      .max(64)
      .refine(([program]) => program?.startsWith('/') === true, 'its first item must be the absolute path of a program')
      .optional()
      .describe(
        'Program and arguments of the plugin, without a shell: it is started, watched and ended by Signet. Or `socket`, or `address`.',
      ),
    environment: z
      .record(foreignVariable(), z.string().max(4096))
      .prefault({})
      .describe('Environment variables for `command`, besides PATH and those of the protocol. Not for secrets: give it a file.'),
    inheritEnvironment: z
      .array(foreignVariable())
      .max(100)
      .prefault([])
      .describe("Variables of Signet's own environment that `command` gets as well. All others it doesn't."),
    socket: path()
      .optional()
      .describe('The unix socket of a plugin that runs by itself. Whoever can listen there is believed: guard its folder.'),
    address: address().optional().describe('Where a plugin that runs by itself listens with TLS; needs `tls`.'),
    tls: z
      .strictObject({
        ca: path().describe("PEM file of the CAs that the plugin's certificate is verified against. There is no default."),
        certificate: path().describe('PEM file of the certificate that Signet shows to the plugin, and its intermediates.'),
        key: path().describe('PEM file of its private key.'),
        serverName: z
          .string()
          .regex(/^[A-Za-z0-9.-]{1,253}$/, 'must be a DNS name or an IP address')
          .optional()
          .describe("The name in the plugin's certificate. Default: the host of `address`."),
      })
      .optional()
      .describe('Mutual TLS with the plugin at `address`. The files are read again when they change.'),
    startTimeout: duration({ min: 100, max: 300_000 })
      .prefault('10s')
      .describe('How long the plugin may take from its start to the first answer; then it is ended and started anew.'),
    ...anchorFields('pinned'),
  })
  .superRefine((settings, context) => {
    const places = [settings.command, settings.socket, settings.address].filter((place) => place !== undefined);
    if (places.length !== 1) {
      context.addIssue({
        code: 'custom',
        message: `needs exactly one of command, socket and address; it has ${places.length === 0 ? 'none' : String(places.length)}`,
      });
    }
    if ((settings.address === undefined) !== (settings.tls === undefined))
      context.addIssue({ code: 'custom', path: ['tls'], message: 'belongs to address: give both, or neither' });
  });

export type PluginSettings = z.output<typeof pluginSettings>;
