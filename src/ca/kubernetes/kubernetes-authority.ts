import type { Clock } from '../../base/clock.ts';
import { formatDuration } from '../../base/duration.ts';
import { SignetError } from '../../base/errors.ts';
import type { KubernetesClient } from '../../kubernetes/client.ts';
import { parseCertificate } from '../../x509/certificate.ts';
import type { Authority, AuthorityHealth, SigningRequest } from '../authority.ts';
import { issuedChain } from './issued-chain.ts';
import { checkOwnNames } from './own-names.ts';
import type { RequestBoard } from './request-board.ts';
import type { Roots } from './roots.ts';

export interface KubernetesAuthorityParts {
  readonly name: string;
  readonly type: string;
  readonly client: KubernetesClient;
  readonly board: RequestBoard;
  readonly roots: Roots;
  readonly clock: Clock;
  /** The `spec` that asks for this, at a time in ms. Throws if it can't be asked for. */
  readonly spec: (request: SigningRequest, now: number) => object;
  /** What to do about a life that is longer than asked for. */
  readonly overlong: string;
  /** Whether requests can be made, without making one. Throws, or says what is wrong. */
  readonly reachable: (signal: AbortSignal) => Promise<AuthorityHealth>;
}

/** The latest moment that a Date can be: while nothing is known of the CA, nothing bounds what is asked for. */
const unknownEnd = 8.64e15;

/** An Authority whose CA is asked by objects of the Kubernetes API, whatever their kind. */
export function kubernetesAuthority(parts: KubernetesAuthorityParts): Authority {
  const { name, type, client, board, roots, clock } = parts;
  /** Of the chain that came last, and of which roots that was. */
  let learnt: { readonly end: number; readonly roots: readonly Buffer[] | undefined } | undefined;
  let intermediates: readonly Buffer[] = [];

  function issuersEnd(): number {
    const known = roots.current();
    // An end that has passed says nothing of the CA as it is now: only another signature tells.
    if (learnt && learnt.roots === known && learnt.end > clock.now()) return learnt.end;
    return known ? Math.max(...known.map((der) => parseCertificate(der).notAfter)) : unknownEnd;
  }

  /** The same intermediates are the same Buffers, so that whoever verified them once knows them again. */
  function interned(given: readonly Buffer[]): readonly Buffer[] {
    const same = given.length === intermediates.length && given.every((der, i) => intermediates[i]?.equals(der));
    if (!same) intermediates = given;
    return intermediates;
  }

  return {
    name,
    type,
    capabilities: { builtHere: false, exactLife: false, namesFromCsr: true },
    async sign(request, signal) {
      if (signal.aborted) throw SignetError.from(signal.reason);
      const now = clock.now();
      const notAfter = Math.min(request.notAfter, issuersEnd());
      if (notAfter <= now) throw new SignetError('AUTHORITY_MISCONFIGURED', `CA backend ${name}: its CA certificate has ended`);
      checkOwnNames(name, request);
      const pem = await board.ask(parts.spec({ ...request, notAfter }, now), signal);
      const known = roots.current();
      const issued = issuedChain(name, pem, known ?? []);
      if (Number.isFinite(issued.issuersEnd)) learnt = { end: issued.issuersEnd, roots: known };
      if (issued.leaf.notAfter > request.notAfter) {
        const over = formatDuration(issued.leaf.notAfter - request.notAfter);
        throw new SignetError(
          'AUTHORITY_MISBEHAVED',
          `CA backend ${name}: the certificate lives ${over} longer than was asked for: ${parts.overlong}`,
        );
      }
      const [leaf, ...above] = issued.chain.certificates;
      return { certificates: [leaf, ...interned(above)], issuerKeyId: issued.chain.issuerKeyId };
    },
    anchors() {
      const known = roots.current();
      if (known) return Promise.resolve(known);
      return Promise.reject(roots.fault() ?? new SignetError('AUTHORITY_UNAVAILABLE', `CA backend ${name}: its roots are not known yet`));
    },
    issuersEnd,
    async health(signal) {
      const waits = board.unanswered();
      if (waits) {
        const ago = formatDuration(Math.max(0, clock.now() - waits.since));
        return { canSign: false, detail: `no request was answered for ${ago} (the last one: ${waits.detail}); is its signer running?` };
      }
      const fault = roots.fault();
      if (fault && !roots.current()) return { canSign: false, detail: fault.message };
      return parts.reachable(signal);
    },
    onChange: roots.onChange,
    async close() {
      await Promise.all([board.close(), roots.close()]);
      await client.close();
    },
  };
}
