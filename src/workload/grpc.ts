import { experimental, ResponderBuilder, ServerCredentials, ServerInterceptingCall, ServerListenerBuilder, status } from '@grpc/grpc-js';
import type { ChannelCredentials, ServerInterceptor } from '@grpc/grpc-js';
import { SignetError } from '../base/errors.ts';
import { privateKeyPem } from '../x509/keys.ts';
import { verifyClient } from './peer.ts';
import type { Authorize } from './authorize.ts';
import { serverContext } from './secure-context.ts';
import { serverCheck } from './tls.ts';
import type { ServerSecurity } from './tls.ts';
import { certificatesPem, trustDomainName } from './x509-context.ts';
import type { X509Source } from './x509-source.ts';

/** What of a call names its caller. */
export interface IdentifiedCall {
  getAuthContext(): { readonly sslPeerCertificate?: { readonly raw: Buffer } | undefined };
}

/**
 * For Server.bindAsync: mutual TLS by the source's identity, which follows its updates. Each call is checked; one that
 * isn't let in is answered PERMISSION_DENIED. Throws CONFIG_INVALID if there is no bundle of the trust domain.
 */
export function grpcServerCredentials(source: X509Source, security: Omit<ServerSecurity, 'onRefused'>): ServerCredentials {
  return new SourceServerCredentials(source, security);
}

/** For new Client(address, ...): mutual TLS by the source's identity, and the server must be one that `authorize` wants. */
export function grpcChannelCredentials(source: X509Source, authorize: Authorize): ChannelCredentials {
  const provider = certificateProvider(source);
  return experimental.createCertificateProviderChannelCredentials(provider, provider, {
    checkServerIdentity: serverCheck(() => source.context, authorize),
  });
}

type Watcher = Parameters<ServerCredentials['_addWatcher']>[0];

/**
 * The library's own credentials that can be changed keep nothing but CA, certificate and key at each change, and so lose
 * the cipher suites and the absence of resumption; ours set everything.
 */
class SourceServerCredentials extends ServerCredentials {
  readonly #source: X509Source;
  readonly #interceptor: ServerInterceptor;
  readonly #refresh: () => void;

  constructor(source: X509Source, security: Omit<ServerSecurity, 'onRefused'>) {
    const trustDomain = security.trustDomain ?? trustDomainName(source.svid.spiffeId);
    super({ requestCert: true, rejectUnauthorized: true }, serverContext(source.context, trustDomain));
    this.#source = source;
    this.#interceptor = refusing((leaf) => verifyClient(leaf, trustDomain, security.authorize, Date.now()));
    this.#refresh = () => {
      try {
        this.updateSecureContextOptions(serverContext(source.context, trustDomain));
      } catch (error) {
        // Without roots nobody is let in: connections are dropped until there are some again.
        this.updateSecureContextOptions(null);
        source.emit('warning', SignetError.from(error));
      }
    };
  }

  override _addWatcher(watcher: Watcher): void {
    if (this.getWatcherCount() === 0) this.#source.on('update', this.#refresh);
    super._addWatcher(watcher);
  }

  override _removeWatcher(watcher: Watcher): void {
    super._removeWatcher(watcher);
    if (this.getWatcherCount() === 0) this.#source.off('update', this.#refresh);
  }

  override _getInterceptors(): ServerInterceptor[] {
    return [this.#interceptor];
  }

  override _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}

/** Lets a call go on only if `verify` takes its caller's certificate. */
function refusing(verify: (leaf: Buffer) => string): ServerInterceptor {
  return (_method, call) => {
    const listener = new ServerListenerBuilder()
      .withOnReceiveMetadata((metadata, next) => {
        try {
          verify(leafOf(call));
        } catch (error) {
          call.sendStatus({ code: status.PERMISSION_DENIED, details: SignetError.from(error).message });
          return;
        }
        next(metadata);
      })
      .build();
    const responder = new ResponderBuilder()
      .withStart((next) => {
        next(listener);
      })
      .build();
    return new ServerInterceptingCall(call, responder);
  };
}

function leafOf(call: IdentifiedCall): Buffer {
  const certificate = call.getAuthContext().sslPeerCertificate;
  if (!certificate) throw new SignetError('INVALID_ARGUMENT', 'the peer showed no certificate that TLS verified');
  return certificate.raw;
}

type CertificateProvider = Parameters<typeof experimental.createCertificateProviderChannelCredentials>[0];

function certificateProvider(source: X509Source): CertificateProvider {
  const tellers = new Map<unknown, () => void>();
  const add = (listener: unknown, tell: () => void): void => {
    tellers.set(listener, tell);
    source.on('update', tell);
    tell();
  };
  const remove = (listener: unknown): void => {
    const tell = tellers.get(listener);
    if (!tell) return;
    tellers.delete(listener);
    source.off('update', tell);
  };
  return {
    addCaCertificateListener(listener) {
      add(listener, () => {
        listener({ caCertificate: Buffer.from(certificatesPem([...source.context.bundles.values()].flat())) });
      });
    },
    removeCaCertificateListener: remove,
    addIdentityCertificateListener(listener) {
      add(listener, () => {
        const { certificates, privateKey } = source.svid;
        listener({ certificate: Buffer.from(certificatesPem(certificates)), privateKey: Buffer.from(privateKeyPem(privateKey)) });
      });
    },
    removeIdentityCertificateListener: remove,
  };
}
