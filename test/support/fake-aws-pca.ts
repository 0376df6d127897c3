import { randomUUID } from 'node:crypto';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { parseCsr } from '../../src/x509/csr.ts';
import { pemEncode } from '../../src/x509/pem.ts';
import { issueEmulated, pemChain } from './emulated-issuing.ts';
import { fakeAws, FakeAwsError } from './fake-aws.ts';
import type { FakeAws } from './fake-aws.ts';
import { testCa } from './forge.ts';

export interface FakeAwsPca extends FakeAws {
  readonly certificateAuthority: string;
  /** As the CA's status says; only an active one issues. */
  state: 'ACTIVE' | 'DISABLED';
  /** How many times GetCertificate says that it is in the making. */
  inProgress: number;
  /** Certificates made: an idempotency token that comes again makes none. */
  readonly made: () => number;
  /** A new subordinate certificate and key under a new root. */
  rotate(): Promise<void>;
}

interface IssueBody {
  readonly Csr: string;
  readonly TemplateArn: string;
  readonly SigningAlgorithm: string;
  readonly IdempotencyToken?: string;
  readonly Validity: { readonly Type: string; readonly Value: number };
  readonly ValidityNotBefore?: { readonly Type: string; readonly Value: number };
  readonly ApiPassthrough: {
    readonly Subject: { readonly Organization: string; readonly CommonName: string };
    readonly Extensions: {
      readonly SubjectAlternativeNames: readonly { readonly UniformResourceIdentifier: string }[];
      readonly KeyUsage?: { readonly DigitalSignature?: boolean };
      readonly ExtendedKeyUsage?: readonly { readonly ExtendedKeyUsageType: string }[];
    };
  };
}

interface Made {
  readonly der: Buffer;
  asked: number;
}

/**
 * A fake of ours, not AWS: IssueCertificate, GetCertificate and GetCertificateAuthorityCertificate as
 * https://docs.aws.amazon.com/privateca/latest/APIReference/ has them, for the one template that we use; with validity,
 * idempotency and states, which moto doesn't have.
 */
export async function fakeAwsPca(): Promise<FakeAwsPca> {
  const certificateAuthority = `arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/${randomUUID()}`;
  const certificates = new Map<string, Made>();
  const tokens = new Map<string, string>();
  let generation = 1;
  let ca = await testCa('Fake AWS 1', Date.now());

  function check({ CertificateAuthorityArn }: Readonly<Record<string, unknown>>): void {
    if (CertificateAuthorityArn !== certificateAuthority)
      throw new FakeAwsError('ResourceNotFoundException', 'Could not find Certificate Authority.');
  }

  const aws = await fakeAws({
    'ACMPrivateCA.GetCertificateAuthorityCertificate'(body) {
      check(body);
      const [certificate, ...chain] = pemChain(ca);
      return { Certificate: certificate, CertificateChain: chain.join('') };
    },
    async 'ACMPrivateCA.IssueCertificate'(body) {
      check(body);
      if (fake.state !== 'ACTIVE') throw new FakeAwsError('InvalidStateException', 'The certificate authority is not in a valid state.');
      const asked = body as unknown as IssueBody;
      const known = asked.IdempotencyToken === undefined ? undefined : tokens.get(asked.IdempotencyToken);
      if (known !== undefined) return { CertificateArn: known };
      const der = await issue(asked);
      const arn = `${certificateAuthority}/certificate/${randomUUID().replaceAll('-', '')}`;
      certificates.set(arn, { der, asked: 0 });
      if (asked.IdempotencyToken !== undefined) tokens.set(asked.IdempotencyToken, arn);
      return { CertificateArn: arn };
    },
    'ACMPrivateCA.GetCertificate'(body) {
      check(body);
      const made = certificates.get(String(body['CertificateArn']));
      if (!made) throw new FakeAwsError('ResourceNotFoundException');
      if (made.asked++ < fake.inProgress) throw new FakeAwsError('RequestInProgressException', 'The certificate is being issued.');
      return { Certificate: pemEncode('CERTIFICATE', made.der), CertificateChain: pemChain(ca).join('') };
    },
  });

  async function issue(asked: IssueBody): Promise<Buffer> {
    if (asked.TemplateArn !== 'arn:aws:acm-pca:::template/BlankEndEntityCertificate_APIPassthrough/V1')
      throw new FakeAwsError('InvalidArnException');
    if (asked.SigningAlgorithm !== 'SHA256WITHECDSA') throw new FakeAwsError('ValidationException', 'the algorithm is not of the key');
    if (asked.Validity.Type !== 'ABSOLUTE' || asked.ValidityNotBefore?.Type !== 'ABSOLUTE') throw new FakeAwsError('ValidationException');
    const notAfter = asked.Validity.Value * 1000;
    if (notAfter <= Date.now() || notAfter > parseCertificate(ca.intermediate).notAfter)
      throw new FakeAwsError('ValidationException', "The validity is past the end of the CA's.");
    const csr = parseCsr(Buffer.from(asked.Csr, 'base64').toString('utf8'));
    const { Subject, Extensions } = asked.ApiPassthrough;
    return issueEmulated(ca, {
      spki: csr.key.spki,
      organization: Subject.Organization,
      commonName: Subject.CommonName,
      uris: Extensions.SubjectAlternativeNames.map(({ UniformResourceIdentifier }) => UniformResourceIdentifier),
      digitalSignature: Extensions.KeyUsage?.DigitalSignature === true,
      purposes: (Extensions.ExtendedKeyUsage ?? []).map(({ ExtendedKeyUsageType }) =>
        ExtendedKeyUsageType === 'SERVER_AUTH' ? 'serverAuth' : 'clientAuth',
      ),
      notBefore: asked.ValidityNotBefore.Value * 1000,
      notAfter,
    });
  }

  const fake: FakeAwsPca = Object.assign(aws, {
    certificateAuthority,
    state: 'ACTIVE' as const,
    inProgress: 1,
    made: () => certificates.size,
    async rotate() {
      ca = await testCa(`Fake AWS ${String(++generation)}`, Date.now());
    },
  });
  return fake;
}
