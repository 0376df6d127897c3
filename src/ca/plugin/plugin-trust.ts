import { SignetError } from '../../base/errors.ts';
import { caCertificate } from '../../x509/path.ts';
import { misbehaved } from './plugin-error.ts';
import type { TrustMessage } from './plugin-messages.ts';

export interface PluginTrust {
  readonly anchors: readonly [Buffer, ...Buffer[]];
  /** In ms. */
  readonly issuersEnd: number;
}

/** What a plugin says that its leaves chain to, if that can be trusted at all. Whether it is, is decided elsewhere. Throws AUTHORITY_MISBEHAVED. */
export function checkTrust({ anchors, issuersEnd }: TrustMessage, plugin: string): PluginTrust {
  let last = 0;
  for (const der of anchors) {
    try {
      const { certificate } = caCertificate(der);
      if (!certificate.subject.equals(certificate.issuer)) throw new SignetError('INVALID_ARGUMENT', 'it is an intermediate');
      last = Math.max(last, certificate.notAfter);
    } catch (error) {
      throw misbehaved(plugin, `an anchor that can't be one: ${SignetError.from(error).message}`);
    }
  }
  const [first, ...rest] = anchors;
  if (!first) throw misbehaved(plugin, 'no anchors');
  // Nothing below an anchor is good after it.
  return { anchors: [first, ...rest], issuersEnd: Math.min(issuersEnd * 1000, last) };
}

export function sameTrust(a: PluginTrust, b: PluginTrust): boolean {
  return (
    a.issuersEnd === b.issuersEnd &&
    a.anchors.length === b.anchors.length &&
    a.anchors.every((der, i) => b.anchors[i]?.equals(der) === true)
  );
}
