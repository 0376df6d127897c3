import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { connect } from 'node:tls';
import type { DetailedPeerCertificate, TLSSocket } from 'node:tls';
import type { Clock } from '../base/clock.ts';
import { SignetError } from '../base/errors.ts';
import { splitAddress } from '../config/address.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { verifyChain } from '../x509/chain.ts';
import { certificatesFromPem, pemEncode } from '../x509/pem.ts';

/** What a server is known by. */
export type ServerTrust = { readonly caFile: string } | { readonly pinnedSpki: ReadonlySet<string> };

const longestChain = 10;
const probeMs = 5000;

/**
 * PEM of the anchors that this server's certificate must hang on. From a file, read anew for each connection; or, under a
 * pin, the root that the server itself shows, once its public key is the pinned one: that connection carries nothing and
 * is closed, and the next is verified against the root as against any other, before a token is sent.
 * Throws AUTHORITY_UNAVAILABLE if there is no answer, or not the right one; CONFIG_INVALID for a file that holds no anchor.
 */
export async function serverAnchors(trust: ServerTrust, address: string, clock: Clock, signal: AbortSignal): Promise<string> {
  if ('pinnedSpki' in trust) return pinnedRoot(await shownChain(address, signal), trust.pinnedSpki, address, clock.now());
  try {
    const pem = await readFile(trust.caFile, 'utf8');
    certificatesFromPem(pem);
    return pem;
  } catch (error) {
    throw new SignetError('CONFIG_INVALID', `${trust.caFile} can't be read, or holds more or less than PEM certificates`, { cause: error });
  }
}

/** The chain as shown, leaf first. Nobody is trusted for it. */
function shownChain(address: string, signal: AbortSignal): Promise<readonly Buffer[]> {
  const { host, port } = splitAddress(address);
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      give(signal.reason);
    };
    const give = (error: unknown): void => {
      signal.removeEventListener('abort', abort);
      socket.destroy();
      const why = error instanceof Error ? error.message : 'no answer';
      reject(new SignetError('AUTHORITY_UNAVAILABLE', `no server answers at ${address} (${why})`, { cause: error }));
    };
    const socket: TLSSocket = connect({
      host,
      port,
      ...(isIP(host) === 0 ? { servername: host } : {}),
      ALPNProtocols: ['h2'],
      // Whoever answers is asked for a public certificate and told nothing; its hash is compared with the pin.
      rejectUnauthorized: false,
      timeout: probeMs,
    });
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    socket.once('timeout', () => {
      give(new Error('it took too long'));
    });
    socket.once('error', give);
    socket.once('secureConnect', () => {
      const chain: Buffer[] = [];
      // A self-signed one is its own issuer. Node leaves the issuer out, whatever its types say, where none was shown.
      let next: Partial<DetailedPeerCertificate> | undefined = socket.getPeerCertificate(true);
      while (next?.raw && chain.length < longestChain) {
        const { raw, issuerCertificate }: Partial<DetailedPeerCertificate> = next;
        if (chain.some((before) => before.equals(raw))) break;
        chain.push(raw);
        next = issuerCertificate;
      }
      signal.removeEventListener('abort', abort);
      socket.removeListener('error', give);
      socket.on('error', () => undefined);
      socket.destroy();
      resolve(chain);
    });
  });
}

/** Exported for its tests: the root at the chain's end, in PEM. Throws AUTHORITY_UNAVAILABLE. */
export function pinnedRoot(chain: readonly Buffer[], pins: ReadonlySet<string>, address: string, now: number): string {
  const root = chain.at(-1);
  const refuse = (why: string, cause?: unknown): SignetError =>
    new SignetError(
      'AUTHORITY_UNAVAILABLE',
      `what answers at ${address} is not the server that was meant (${why}): check serverTrust.pinnedSpki`,
      {
        cause,
      },
    );
  if (!root) throw refuse('it shows no certificate');
  try {
    const { spkiSha256, isCa } = parseCertificate(root);
    if (!pins.has(spkiSha256)) throw refuse('the root of its certificate has another public key than the pinned one');
    if (!isCa) throw refuse('the pinned certificate is no CA');
    verifyChain(chain.slice(0, -1), [root], now);
  } catch (error) {
    throw error instanceof SignetError && error.code === 'AUTHORITY_UNAVAILABLE' ? error : refuse('its chain does not verify', error);
  }
  return pemEncode('CERTIFICATE', root);
}
