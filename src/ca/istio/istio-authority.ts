import type { Clock, Random } from '../../base/clock.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { readSecret } from '../../base/secret-file.ts';
import { parseCertificate } from '../../x509/certificate.ts';
import { parseCsr } from '../../x509/csr.ts';
import { certificatesFromPem, pemEncode } from '../../x509/pem.ts';
import type { Authority, SignedChain, SigningRequest } from '../authority.ts';
import { createForeignChains } from '../foreign-chain.ts';
import { createGrpcUpstream } from '../grpc/grpc-upstream.ts';
import { followTlsFiles } from '../grpc/tls-files.ts';
import { createListeners } from '../listeners.ts';
import { createPolledValue, sameCertificates } from '../polled-value.ts';
import { validitySeconds } from './validity.ts';
import type { IstioSettings } from './settings.ts';

export interface IstioAuthorityOptions {
  readonly name: string;
  readonly settings: Omit<IstioSettings, 'type' | 'anchors' | 'approvedAnchors'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

interface CreateCertificateResponse {
  readonly certChain: readonly string[];
}

const lookEveryMs = 2000;
const mostElements = 20;
const longestElement = 256 * 1024;

/**
 * A CA that speaks Istio's API (`istio.v1.auth.IstioCertificateService`): istiod, or what stands in for it. Opened whether
 * or not it answers; what is wrong with our own files shows at the first signature, and in the log at once.
 */
export function openIstioAuthority({ name, settings, clock, random, log }: IstioAuthorityOptions): Authority {
  const { address, roots, impersonate, clusterId, certSigner } = settings;
  const setting = `ca.backends.${name}`;
  const tls = followTlsFiles({ setting, ...settings, random, log });
  const upstream = createGrpcUpstream({
    what: `${name} (the Istio CA at ${address})`,
    address,
    serverName: settings.serverName,
    file: 'istio/v1/auth/ca.proto',
    service: 'istio.v1.auth.IstioCertificateService',
    material: tls.get,
    tokenFile: settings.tokenFile,
  });
  const chains = createForeignChains(name);
  const changed = createListeners(log);
  const anchors = createPolledValue<readonly Buffer[]>({
    what: `the roots of ${name}`,
    ask: () => readRoots(`${setting}.roots`, roots),
    everyMs: lookEveryMs,
    isSame: sameCertificates,
    onChange: changed.notify,
    random,
    log,
  });
  /** The earliest end of the CA certificates that came with the last leaf. */
  let chainEnd = Infinity;

  function issuersEnd(): number {
    const rootEnds = (anchors.current() ?? []).map((der) => parseCertificate(der).notAfter);
    // One that has passed says nothing of the CA as it is now: only another signature tells.
    const known = chainEnd > clock.now() ? chainEnd : Infinity;
    return Math.min(known, rootEnds.length === 0 ? Infinity : Math.max(...rootEnds));
  }

  async function create(request: SigningRequest, signal: AbortSignal): Promise<SignedChain> {
    const fields = {
      ...(impersonate ? { ImpersonatedIdentity: { stringValue: request.spiffeId } } : {}),
      ...(certSigner === undefined ? {} : { CertSigner: { stringValue: certSigner } }),
    };
    const message = {
      csr: pemEncode('CERTIFICATE REQUEST', request.csr()),
      validityDuration: validitySeconds(Math.min(request.notAfter, issuersEnd()) - clock.now()),
      metadata: { fields },
    };
    const metadata = clusterId === undefined ? {} : { clusterid: clusterId };
    const { certChain } = await upstream
      .call<CreateCertificateResponse>('CreateCertificate', message, signal, metadata)
      .catch((error: unknown) => {
        throw withHint(SignetError.from(error), request, impersonate);
      });
    const signed = chains.signed(certificatesOf(name, certChain));
    chainEnd = Math.min(...signed.certificates.slice(1).map((der) => parseCertificate(der).notAfter), Infinity);
    return signed;
  }

  return {
    name,
    type: 'istio',
    capabilities: { builtHere: false, exactLife: false },
    async sign(request, signal) {
      if (signal.aborted) throw SignetError.from(signal.reason);
      const endKnown = issuersEnd();
      const signed = await create(request, signal);
      // Istio's CA looks at its own end only now and then. Which CA signs is first seen here, so that once after a change
      // of it a certificate is asked for again that doesn't outlive it.
      const outlives = parseCertificate(signed.certificates[0]).notAfter > issuersEnd();
      return outlives && issuersEnd() < endKnown ? create(request, signal) : signed;
    },
    anchors: anchors.get,
    issuersEnd,
    async health(signal) {
      try {
        await upstream.reach(signal);
        return { canSign: true, detail: `the Istio CA answers at ${address}` };
      } catch (error) {
        return { canSign: false, detail: SignetError.from(error).message };
      }
    },
    onChange: changed.add,
    close() {
      tls.close();
      anchors.close();
      upstream.close();
      return Promise.resolve();
    },
  };
}

/** A CA that takes the name from the request can't do much with one that has none. */
function withHint(failure: SignetError, { csr }: SigningRequest, impersonate: boolean): SignetError {
  if (impersonate || failure.code !== 'AUTHORITY_REFUSED' || parseCsr(csr()).uris.length > 0) return failure;
  const hint = 'the request has no name, and this CA takes names from requests: the workload must put its SPIFFE ID into its CSR';
  return new SignetError('AUTHORITY_REFUSED', `${failure.message}; ${hint}`, { cause: failure.cause });
}

/** Leaf, intermediates, and the roots in the last element: istiod puts one certificate into each of the others, some put more. */
function certificatesOf(name: string, elements: readonly string[]): Buffer[] {
  if (elements.length > mostElements || elements.some((text) => text.length > longestElement))
    throw new SignetError('AUTHORITY_MISBEHAVED', `${name} returned more than a chain of certificates`);
  try {
    return elements.filter((text) => text.trim() !== '').flatMap(certificatesFromPem);
  } catch (error) {
    throw new SignetError('AUTHORITY_MISBEHAVED', `${name} returned something else than certificates`, { cause: error });
  }
}

async function readRoots(setting: string, file: string): Promise<readonly Buffer[]> {
  try {
    const certificates = certificatesFromPem(await readSecret(setting, file));
    const odd = certificates.map(parseCertificate).find(({ isCa, issuer, subject }) => !isCa || !issuer.equals(subject));
    if (odd) throw new SignetError('INVALID_ARGUMENT', `${odd.subjectText} is not a root`);
    return certificates;
  } catch (error) {
    const { code, message } = SignetError.from(error);
    throw new SignetError('AUTHORITY_MISCONFIGURED', code === 'CONFIG_INVALID' ? message : `${setting}: ${file}: ${message}`, {
      cause: error,
    });
  }
}
