import type { ClientHttp2Session } from 'node:http2';
import type { TLSSocket } from 'node:tls';
import { exchangeHttp1, http2Session, openConnection, sessionRequest, type MtlsTarget, type TlsIdentity } from './mtls-request.ts';

/** Connections that are opened once and then used again and again, to show that rotation breaks none of them. */
export interface OpenConnections {
  /** Asks once more on each, one after the other; rejects if any was lost. */
  ask(): Promise<void>;
  close(): void;
}

export async function openConnections(count: number, target: MtlsTarget, identity: TlsIdentity): Promise<OpenConnections> {
  const open: { readonly socket: TLSSocket; readonly session: ClientHttp2Session | undefined }[] = [];
  for (let i = 0; i < count; i++) {
    const { socket } = await openConnection(target, identity, AbortSignal.timeout(5000));
    open.push({ socket, session: target.http === 'h2' ? http2Session(socket) : undefined });
  }
  return {
    async ask() {
      for (const { socket, session } of open) {
        if (socket.destroyed) throw new Error('an open connection was lost');
        const signal = AbortSignal.timeout(5000);
        const status = await (session ? sessionRequest(session, signal) : exchangeHttp1(socket, signal, 'keep-alive'));
        if (status !== 200) throw new Error(`status ${String(status)} on an open connection`);
      }
    },
    close() {
      for (const { socket, session } of open) {
        session?.destroy();
        socket.destroy();
      }
    },
  };
}
