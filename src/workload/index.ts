/** `signet-sds/workload`: a Node service's own identity from the SPIFFE Workload API, for node:tls, node:https and grpc-js. */
export { SignetError } from '../base/errors.ts';
export { memberOf, oneOf } from './authorize.ts';
export type { Authorize } from './authorize.ts';
export { grpcChannelCredentials, grpcServerCredentials } from './grpc.ts';
export { clientOptions, httpsAgent, mutualTls, peerIdOf, secureServer } from './tls.ts';
export type { ServerSecurity } from './tls.ts';
export type { X509Context, X509Svid } from './x509-context.ts';
export { X509Source } from './x509-source.ts';
export type { X509SourceOptions } from './x509-source.ts';
