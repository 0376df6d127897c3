import type { Clock, Random } from '../../base/clock.ts';
import { abortable } from '../../base/deadline.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { parseCertificate } from '../../x509/certificate.ts';
import { certificatesFromPem, pemEncode } from '../../x509/pem.ts';
import type { Authority } from '../authority.ts';
import { createForeignChains } from '../foreign-chain.ts';
import { createListeners } from '../listeners.ts';
import { createPolledValue, sameCertificates } from '../polled-value.ts';
import { healthResponse, intermediatesResponse, provisionersResponse, rootsResponse, signResponse } from './messages.ts';
import { readProvisionerKey } from './provisioner-token.ts';
import type { ProvisionerKey } from './provisioner-token.ts';
import type { StepCaSettings } from './settings.ts';
import { createStepClient } from './step-client.ts';

export interface StepCaAuthorityOptions {
  readonly name: string;
  readonly settings: Omit<StepCaSettings, 'type' | 'anchors' | 'approvedAnchors'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** What step-ca says of itself: DER. */
interface CaCertificates {
  readonly roots: readonly Buffer[];
  readonly intermediates: readonly Buffer[];
}

const mostPages = 20;

/**
 * smallstep's step-ca by its HTTP API: for each certificate a one-time token of one of its provisioners, made here. It is
 * opened whether or not it answers. Throws AUTHORITY_MISCONFIGURED or KEY_UNSEALABLE for what is wrong with our own files.
 */
export async function openStepCaAuthority({ name, settings, clock, random, log }: StepCaAuthorityOptions): Promise<Authority> {
  const { url, rootFingerprints, provisioner } = settings;
  const readKey = (): Promise<ProvisionerKey> => readProvisionerKey({ name, ...settings });
  let key = await readKey();
  const client = createStepClient({ name, url, rootFingerprints });
  const chains = createForeignChains(name);
  const changed = createListeners(log);
  const known = createPolledValue<CaCertificates>({
    what: `the roots of ${name} (step-ca at ${url})`,
    async ask(signal) {
      const { crts } = await client.call('/1.0/roots', rootsResponse, { signal });
      return { roots: crts.map(oneCertificate), intermediates: await intermediates(signal) };
    },
    everyMs: settings.refresh,
    isSame: (a, b) => sameCertificates(a.roots, b.roots) && sameCertificates(a.intermediates, b.intermediates),
    onChange({ roots }) {
      client.trust(roots);
      changed.notify();
    },
    random,
    log,
  });

  /** An older step-ca, or one that signs in a cloud, has no list of them. */
  async function intermediates(signal: AbortSignal): Promise<readonly Buffer[]> {
    try {
      const { crts } = await client.call('/1.0/intermediates', intermediatesResponse, { signal });
      return crts.map(oneCertificate);
    } catch (error) {
      if (signal.aborted) throw error;
      return [];
    }
  }

  /** Whether a refused credential is one, or the provisioner isn't there at all: step-ca says 401 to both. */
  async function refusedBecause(refused: SignetError, signal: AbortSignal): Promise<SignetError> {
    let cursor = '';
    for (let page = 0; page < mostPages; page++) {
      const path = `/1.0/provisioners?limit=100${cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`}`;
      const { provisioners, nextCursor } = await client.call(path, provisionersResponse, { signal });
      if (provisioners.some((one) => one.name === provisioner && (key.keyId === undefined ? one.type === 'X5C' : one.type === 'JWK')))
        return refused;
      if (nextCursor === undefined || nextCursor === '') break;
      cursor = nextCursor;
    }
    const type = key.keyId === undefined ? 'X5C' : 'JWK';
    return new SignetError(
      'AUTHORITY_MISCONFIGURED',
      `${name}: step-ca has no ${type} provisioner named ${provisioner}: check provisioner`,
    );
  }

  async function signOnce(
    csr: Buffer,
    token: string,
    life: { notBefore: string; notAfter: string },
    signal: AbortSignal,
  ): Promise<Buffer[]> {
    const body = { csr: pemEncode('CERTIFICATE REQUEST', csr), ott: token, ...life };
    try {
      const { certChain } = await client.call('/1.0/sign', signResponse, { signal, body });
      return certChain.map(oneCertificate);
    } catch (error) {
      const failure = SignetError.from(error);
      if (failure.code === 'AUTHORITY_REFUSED' && failure.message.includes(' 401'))
        throw await refusedBecause(failure, signal).catch(() => failure);
      throw failure;
    }
  }

  return {
    name,
    type: 'step-ca',
    // Nothing outlives the certificate of an X5C provisioner.
    capabilities: { builtHere: false, exactLife: settings.certificateFile === undefined },
    async sign({ spiffeId, csr, notBefore, notAfter }, signal) {
      if (signal.aborted) throw SignetError.from(signal.reason);
      // A key or certificate that was replaced is taken up by the next signature.
      key = await abortable(readKey(), signal);
      const request = csr();
      const life = {
        notBefore: new Date(Math.max(notBefore, key.notBefore)).toISOString(),
        notAfter: new Date(Math.min(notAfter, key.notAfter, issuersEnd())).toISOString(),
      };
      const token = await key.token({ spiffeId, csr: request, now: clock.now() });
      return chains.signed(await signOnce(request, token, life, signal));
    },
    async anchors(signal) {
      const { roots } = await known.get(signal);
      return roots;
    },
    issuersEnd,
    async health(signal) {
      try {
        await client.call('/1.0/health', healthResponse, { signal });
        return { canSign: true, detail: `step-ca answers at ${url}` };
      } catch (error) {
        return { canSign: false, detail: SignetError.from(error).message };
      }
    },
    onChange: changed.add,
    async close() {
      known.close();
      await client.close();
    },
  };

  function issuersEnd(): number {
    const { roots = [], intermediates: below = [] } = known.current() ?? {};
    // Of several roots the one that ends last: which of them is above the next leaf isn't known beforehand.
    const ends = (ders: readonly Buffer[]): number =>
      ders.length === 0 ? Infinity : Math.max(...ders.map((der) => parseCertificate(der).notAfter));
    return Math.min(ends(roots), ends(below));
  }
}

function oneCertificate(pem: string): Buffer {
  const [der, second] = certificatesFromPem(pem);
  if (!der || second) throw new SignetError('AUTHORITY_MISBEHAVED', 'step-ca returned something else than a certificate');
  return der;
}
