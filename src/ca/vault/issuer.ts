import { z } from 'zod';
import { SignetError } from '../../base/errors.ts';
import { parseCertificate } from '../../x509/certificate.ts';
import type { Certificate } from '../../x509/certificate.ts';
import { publicKeyOctets, subjectKeyId } from '../../x509/extensions.ts';
import { caCertificate, issuedFault } from '../../x509/path.ts';
import { certificatesFromPem } from '../../x509/pem.ts';

/** One issuer of a PKI mount, with the CAs above it. Its Buffers stay the same, so that whoever verified them knows them again. */
export interface VaultIssuer {
  /** Vault's own id: the name `default` moves, this doesn't. */
  readonly id: string;
  readonly subject: string;
  /** DER: what follows a leaf. Empty if the root itself signs. */
  readonly intermediates: readonly Buffer[];
  readonly root: Buffer;
  /** Hex. */
  readonly keyId: string;
  /** The earliest end of all of them. */
  readonly end: number;
}

const pem = z.string().max(64 * 1024);
/** `GET /:mount/issuer/:ref`, which needs a token. */
export const issuerAnswer = z.object({
  data: z.object({
    issuer_id: z.string().regex(/^[0-9a-f-]{36}$/),
    certificate: pem,
    ca_chain: z.array(pem).max(20).nullish(),
    revoked: z.boolean().prefault(false),
    usage: z.string().prefault('issuing-certificates'),
  }),
});
export type IssuerAnswer = z.infer<typeof issuerAnswer>['data'];

const longestPath = 8;

/**
 * The issuer with the path up to its root, each signature verified. `roots` (DER) are those of the operator's file, else
 * the chain must end in a self-signed one. Throws AUTHORITY_MISCONFIGURED.
 */
export function readIssuer(label: string, answer: IssuerAnswer, roots: readonly Buffer[] | undefined): VaultIssuer {
  const misconfigured = (what: string, cause?: unknown): SignetError =>
    new SignetError('AUTHORITY_MISCONFIGURED', `${label}: its issuer ${what}`, { cause });
  if (answer.revoked) throw misconfigured('is revoked');
  if (!answer.usage.split(',').includes('issuing-certificates')) throw misconfigured('may not issue certificates: look at its usage');
  try {
    const signing = onlyOne(answer.certificate);
    const chain = (answer.ca_chain ?? []).flatMap(certificatesFromPem);
    const path = pathToRoot(signing, chain, roots);
    if (!path) {
      throw misconfigured(
        roots
          ? 'is not below a root in rootFile'
          : 'has no self-signed root above it in Vault: import that too, or name its file as rootFile',
      );
    }
    const [root] = path.slice(-1);
    if (!root) throw misconfigured('has no root');
    const { subjectKeyId: keyId, spki, subjectText } = path[0] ?? root;
    return {
      id: answer.issuer_id,
      subject: subjectText,
      intermediates: path.slice(0, -1).map(({ der }) => der),
      root: root.der,
      keyId: keyId ?? subjectKeyId(publicKeyOctets(spki, (what) => misconfigured(what))).toString('hex'),
      end: Math.min(...path.map(({ notAfter }) => notAfter)),
    };
  } catch (error) {
    if (error instanceof SignetError && error.code === 'AUTHORITY_MISCONFIGURED') throw error;
    throw misconfigured(`can't be used: ${error instanceof SignetError ? error.message : 'it is malformed'}`, error);
  }
}

/** Of the same CAs: a new poll of an unchanged issuer. */
export function isSameIssuer(a: VaultIssuer, b: VaultIssuer): boolean {
  return (
    a.id === b.id &&
    a.root.equals(b.root) &&
    a.intermediates.length === b.intermediates.length &&
    a.intermediates.every((der, i) => b.intermediates[i]?.equals(der))
  );
}

function onlyOne(text: string): Buffer {
  const [first, second] = certificatesFromPem(text);
  if (!first || second) throw new SignetError('INVALID_ARGUMENT', 'it is not one certificate');
  return first;
}

/** From the signing CA to the root, both included; the order of Vault's list is not relied on, and a cross-signed twin does not mislead. */
function pathToRoot(signing: Buffer, chain: readonly Buffer[], roots: readonly Buffer[] | undefined): Certificate[] | undefined {
  const path = [caCertificate(signing).certificate];
  for (let current = path[0]; current && path.length <= longestPath; current = path.at(-1)) {
    const here = current;
    const isRoot = here.subject.equals(here.issuer);
    if (isRoot && (!roots || roots.some((der) => der.equals(here.der)))) return path;
    const above = roots?.find((der) => issued(here, der));
    if (above) return [...path, parseCertificate(above)];
    const candidates = chain.filter((der) => !path.some((one) => one.der.equals(der)) && issued(here, der));
    const next = candidates.find(isSelfSigned) ?? candidates[0];
    if (!next) return undefined;
    path.push(caCertificate(next).certificate);
  }
  return undefined;
}

function issued(child: Certificate, der: Buffer): boolean {
  try {
    return issuedFault(child, caCertificate(der), false) === undefined;
  } catch {
    // Something else in the list than a CA that can be used.
    return false;
  }
}

function isSelfSigned(der: Buffer): boolean {
  const { subject, issuer } = parseCertificate(der);
  return subject.equals(issuer);
}
