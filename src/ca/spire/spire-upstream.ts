import type { Clock, Random } from '../../base/clock.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { TrustDomain } from '../../spiffe/id.ts';
import { createGrpcUpstream } from '../grpc/grpc-upstream.ts';
import { followTlsFiles } from '../grpc/tls-files.ts';
import type { IntermediateUpstream } from '../intermediate/upstream.ts';
import { createListeners } from '../listeners.ts';
import { createPolledValue, sameCertificates } from '../polled-value.ts';
import type { SpireUpstreamSettings } from './settings.ts';

interface SpireBundle {
  readonly x509Authorities: readonly { readonly asn1: Buffer; readonly tainted: boolean }[];
}

interface DownstreamResponse {
  readonly caCertChain: readonly Buffer[];
}

/**
 * SPIRE's server as the CA of our intermediate: what a nested SPIRE server asks of it (`NewDownstreamX509CA`), by mutual TLS
 * with an X.509-SVID whose registration entry is `downstream`. Opened whether or not it answers.
 */
export function openSpireUpstream(options: {
  /** Of the backend that it is the upstream of. */
  readonly name: string;
  readonly trustDomain: TrustDomain;
  readonly settings: Omit<SpireUpstreamSettings, 'type'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}): IntermediateUpstream {
  const { name, trustDomain, settings, clock, random, log } = options;
  const { address } = settings;
  const tls = followTlsFiles({ setting: `ca.backends.${name}.upstream`, ...settings, random, log });
  const what = `${name} (the SPIRE server at ${address})`;
  // SPIRE's server shows an X.509-SVID: its name is a SPIFFE ID, and always this one.
  const where = { what, address, serverName: `spiffe://${trustDomain}/spire/server`, material: tls.get };
  const svids = createGrpcUpstream({ ...where, file: 'spire/api/server/svid/v1/svid.proto', service: 'spire.api.server.svid.v1.SVID' });
  const bundles = createGrpcUpstream({
    ...where,
    file: 'spire/api/server/bundle/v1/bundle.proto',
    service: 'spire.api.server.bundle.v1.Bundle',
  });
  const changed = createListeners(log);
  const anchors = createPolledValue<readonly Buffer[]>({
    what: `the roots of ${what}`,
    async ask(signal) {
      const request = { outputMask: { x509Authorities: true } };
      const { x509Authorities } = await bundles.call<SpireBundle>('GetBundle', request, signal);
      // A tainted one has been compromised, and everybody is told to let go of it.
      return x509Authorities.filter(({ tainted }) => !tainted).map(({ asn1 }) => asn1);
    },
    everyMs: settings.refresh,
    isSame: sameCertificates,
    onChange: changed.notify,
    random,
    log,
  });

  return {
    type: 'spire',
    // What SPIRE certifies may have CAs below it, as far as SPIRE goes; ours has none.
    forLeavesOnly: false,
    async signIntermediate({ csr, notAfter }, signal) {
      const preferredTtl = Math.floor((notAfter - clock.now()) / 1000);
      const { caCertChain } = await svids.call<DownstreamResponse>('NewDownstreamX509CA', { csr, preferredTtl }, signal);
      const [first, ...rest] = caCertChain;
      if (!first) throw new SignetError('AUTHORITY_MISBEHAVED', `${what} returned no certificate`);
      return { certificates: [first, ...rest] };
    },
    anchors: anchors.get,
    async health(signal) {
      try {
        await svids.reach(signal);
        return { canSign: true, detail: `the SPIRE server answers at ${address}` };
      } catch (error) {
        return { canSign: false, detail: SignetError.from(error).message };
      }
    },
    onChange: changed.add,
    close() {
      tls.close();
      anchors.close();
      svids.close();
      bundles.close();
      return Promise.resolve();
    },
  };
}
