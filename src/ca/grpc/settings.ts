import { z } from 'zod';
import { address, path } from '../../config/fields.ts';

/** How a CA that speaks gRPC is reached, and what we show it. */
export const grpcUpstreamFields = {
  address: address().describe('HOST:PORT of its gRPC listener.'),
  caFile: path().describe('PEM file of the CAs by which its TLS certificate is believed. Read again when it changes.'),
  serverName: z
    .string()
    .min(1)
    .max(2048)
    .optional()
    .describe('The name that its TLS certificate must have: a DNS name, an IP address or a SPIFFE ID. Default: the host of `address`.'),
  tokenFile: path()
    .optional()
    .describe('File of the bearer token that is sent, read for each call. Either this, or `certificateFile` and `keyFile`.'),
  certificateFile: path().optional().describe('PEM file of the client certificate and its intermediates. Read again when it changes.'),
  keyFile: path().optional().describe("PEM file of the client certificate's key."),
};

type Credential = {
  readonly tokenFile?: string | undefined;
  readonly certificateFile?: string | undefined;
  readonly keyFile?: string | undefined;
};

/** Exactly one way to prove who we are. */
export const hasOneCredential = ({ tokenFile, certificateFile, keyFile }: Credential): boolean =>
  (certificateFile === undefined) === (keyFile === undefined) && (tokenFile === undefined) !== (certificateFile === undefined);

export const oneCredential = { message: 'give tokenFile, or certificateFile and keyFile' };
