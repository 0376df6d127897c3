import type { Clock, Random } from '../../base/clock.ts';
import { SignetError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { createGrpcUpstream } from '../grpc/grpc-upstream.ts';
import { followTlsFiles } from '../grpc/tls-files.ts';
import type { IntermediateUpstream } from '../intermediate/upstream.ts';
import { createListeners } from '../listeners.ts';
import { createPolledValue, sameCertificates } from '../polled-value.ts';
import type { SignetUpstreamSettings } from './settings.ts';

interface BundleResponse {
  readonly anchors: readonly Buffer[];
}

interface IntermediateResponse {
  readonly chain: readonly Buffer[];
}

/** Another Signet as the CA of our intermediate, by `signet.v1.CertificateService`. Opened whether or not it answers. */
export function openSignetUpstream(options: {
  /** Of the backend that it is the upstream of. */
  readonly name: string;
  readonly settings: Omit<SignetUpstreamSettings, 'type'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}): IntermediateUpstream {
  const { name, settings, clock, random, log } = options;
  const { address } = settings;
  const tls = followTlsFiles({ setting: `ca.backends.${name}.upstream`, ...settings, random, log });
  const what = `${name} (the upstream Signet at ${address})`;
  const upstream = createGrpcUpstream({
    what,
    address,
    serverName: settings.serverName,
    file: 'signet/v1/certificate_service.proto',
    service: 'signet.v1.CertificateService',
    material: tls.get,
    tokenFile: settings.tokenFile,
  });
  const changed = createListeners(log);
  const anchors = createPolledValue<readonly Buffer[]>({
    what: `the roots of ${what}`,
    ask: async (signal) => (await upstream.call<BundleResponse>('GetX509Bundle', {}, signal)).anchors,
    everyMs: settings.refresh,
    isSame: sameCertificates,
    onChange: changed.notify,
    random,
    log,
  });

  return {
    type: 'signet',
    forLeavesOnly: true,
    async signIntermediate({ csr, notAfter }, signal) {
      const ttlSeconds = Math.floor((notAfter - clock.now()) / 1000);
      const { chain } = await upstream.call<IntermediateResponse>('SignIntermediate', { csr, ttlSeconds }, signal);
      const [first, ...rest] = chain;
      if (!first) throw new SignetError('AUTHORITY_MISBEHAVED', `${what} returned no certificate`);
      return { certificates: [first, ...rest] };
    },
    anchors: anchors.get,
    async health(signal) {
      try {
        await upstream.reach(signal);
        return { canSign: true, detail: `the upstream Signet answers at ${address}` };
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
