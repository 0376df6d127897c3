import type { Random } from '../../base/clock.ts';
import { SignetError } from '../../base/errors.ts';
import { harmless } from '../../base/harmless.ts';
import type { Log } from '../../base/log.ts';
import type { TrustDomain } from '../../spiffe/id.ts';
import { parseCertificate } from '../../x509/certificate.ts';
import { parseCsr } from '../../x509/csr.ts';
import type { Authority } from '../authority.ts';
import { createListeners } from '../listeners.ts';
import { misbehaved } from './plugin-error.ts';
import { openPluginLink } from './plugin-link.ts';
import type { Pulse } from './plugin-link.ts';
import type { PluginSource } from './plugin-source.ts';

export interface PluginAuthorityOptions {
  readonly name: string;
  readonly trustDomain: TrustDomain;
  readonly source: PluginSource;
  readonly startTimeoutMs: number;
  readonly random: Random;
  readonly log: Log;
  readonly pulse?: Pulse;
}

const longestDetail = 500;

/**
 * A CA in another process, by signet.plugin.v1. Waits for the plugin once, and opens without it if it is away: a server that
 * starts during an outage still serves what it has. Never throws for that.
 */
export async function openPluginAuthority(options: PluginAuthorityOptions): Promise<Authority> {
  const { name, log } = options;
  const listeners = createListeners(log);
  const link = openPluginLink({ ...options, onTrust: listeners.notify });
  await link.settled;
  let above: readonly Buffer[] = [];

  /** The same Buffers for the same intermediates: whoever verified them once knows them again. */
  function known(intermediates: readonly Buffer[]): readonly Buffer[] {
    if (intermediates.length !== above.length || !intermediates.every((der, i) => above[i]?.equals(der) === true)) above = intermediates;
    return above;
  }

  /** Logs what is the plugin's doing and nobody else would: the caller may have gone. */
  async function heard<T>(what: object, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const ended = (): boolean => signal.aborted;
    if (ended()) throw SignetError.from(signal.reason);
    try {
      return await work();
    } catch (error) {
      const failure = SignetError.from(error);
      if (failure.code === 'AUTHORITY_MISBEHAVED')
        log.error({ authority: name, ...what, err: failure }, 'the plugin broke the protocol: what it sent is not used');
      else if (failure.code !== 'CANCELLED' && ended()) log.error({ authority: name, ...what }, 'the plugin did not answer in time');
      throw failure;
    }
  }

  return {
    name,
    type: 'plugin',
    get capabilities() {
      return { builtHere: false, exactLife: link.fault() === undefined && link.session().exactLife };
    },
    sign: (request, signal) =>
      heard({ spiffeId: request.spiffeId }, signal, async () => {
        const { spiffeId, spki, notBefore, notAfter } = request;
        const [leaf, ...intermediates] = await link
          .session()
          .client.sign({ csr: request.csr(), spiffeId, publicKey: spki, notBefore: notBefore / 1000, notAfter: notAfter / 1000 }, signal);
        return { certificates: [leaf, ...known(intermediates)], issuerKeyId: issuerKeyId(leaf, name) };
      }),
    signIntermediate: (request, signal) =>
      heard({ intermediate: request.commonName }, signal, async () => {
        const { client, signIntermediate } = link.session();
        if (!signIntermediate) throw new SignetError('AUTHORITY_MISCONFIGURED', `plugin ${name} can't sign intermediates`);
        const { csr, commonName, notAfter } = request;
        const publicKey = parseCsr(csr).key.spki;
        const chain = await client.signIntermediate({ csr, publicKey, commonName, notAfter: Math.floor(notAfter / 1000) }, signal);
        return { certificates: chain };
      }),
    anchors: () => {
      const trust = link.trust();
      return trust ? Promise.resolve(trust.anchors) : Promise.reject(link.fault() ?? unheardOf(name));
    },
    // Nothing is known before the first word; what comes back from a signature is verified in any case.
    issuersEnd: () => link.trust()?.issuersEnd ?? Number.POSITIVE_INFINITY,
    async health(signal) {
      const fault = link.fault();
      if (fault) return { canSign: false, detail: fault.message };
      try {
        const { canSign, detail } = await link.session().client.health(signal);
        return {
          canSign,
          detail: detail === '' ? `plugin ${name} ${canSign ? 'can' : "can't"} sign` : harmless(detail.slice(0, longestDetail)),
        };
      } catch (error) {
        return { canSign: false, detail: SignetError.from(error).message };
      }
    },
    onChange: listeners.add,
    close: link.close,
  };
}

/** Of the key that signed the leaf, as RFC 5280 §4.2.1.1 has it in every certificate. */
function issuerKeyId(leaf: Buffer, plugin: string): string {
  let keyId: string | undefined;
  try {
    keyId = parseCertificate(leaf).authorityKeyId;
  } catch (error) {
    throw misbehaved(plugin, SignetError.from(error).message);
  }
  if (keyId === undefined) throw misbehaved(plugin, 'the certificate has no authority key identifier');
  return keyId;
}

function unheardOf(plugin: string): SignetError {
  return new SignetError('AUTHORITY_UNAVAILABLE', `plugin ${plugin} has not said what its leaves chain to`);
}
