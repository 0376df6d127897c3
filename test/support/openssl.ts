import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { runProgram } from './process.ts';
import { tempFolder } from './temp.ts';

export interface PemPair {
  readonly certificate: string;
  readonly key: string;
}

export async function openssl(args: readonly string[]): Promise<void> {
  const ran = await runProgram('openssl', args);
  if (ran.code !== 0) throw new Error(`openssl ${args.join(' ')}: ${ran.stderr}`);
}

const ecKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'] as const;

/** A self-signed CA that has nothing to do with ours. */
export async function foreignCa(commonName = 'Foreign Root', keyArgs: readonly string[] = ecKey): Promise<PemPair> {
  await using folder = await tempFolder();
  const [cert, key] = [folder.file('ca.crt'), folder.file('ca.key')];
  const extensions = ['-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign,cRLSign'];
  await openssl([
    'req',
    '-x509',
    ...keyArgs,
    '-keyout',
    key,
    '-out',
    cert,
    '-subj',
    `/O=Test/CN=${commonName}`,
    '-days',
    '2',
    ...extensions,
  ]);
  return { certificate: await readFile(cert, 'utf8'), key: await readFile(key, 'utf8') };
}

export interface CertificateWish {
  /** Ms since the epoch; OpenSSL's resolution is a second. */
  readonly notBefore?: number;
  readonly notAfter?: number;
  readonly keyArgs?: readonly string[];
  /** More lines of OpenSSL's extension section. */
  readonly extensions?: readonly string[];
}

/** A leaf of that CA with a SPIFFE ID, made by a program that shares no line with ours. */
export async function foreignLeaf(ca: PemPair, wish: CertificateWish & { readonly uri: string; readonly ip?: string }): Promise<PemPair> {
  const profile = [
    'basicConstraints = critical, CA:FALSE',
    'keyUsage = critical, digitalSignature',
    'extendedKeyUsage = serverAuth, clientAuth',
  ];
  return signedBy(
    ca,
    '/CN=leaf',
    [...profile, `subjectAltName = URI:${wish.uri}${wish.ip ? `, IP:${wish.ip}` : ''}`, ...(wish.extensions ?? [])],
    wish,
  );
}

/** Somebody else's client certificate: a subject as `openssl -subj` takes it, names as subjectAltName lists them. */
export async function foreignClient(
  ca: PemPair,
  wish: CertificateWish & { readonly subject: string; readonly names?: string; readonly purpose?: string },
): Promise<PemPair> {
  const profile = ['basicConstraints = critical, CA:FALSE', 'keyUsage = critical, digitalSignature'];
  if (wish.purpose !== '') profile.push(`extendedKeyUsage = ${wish.purpose ?? 'clientAuth'}`);
  if (wish.names !== undefined) profile.push(`subjectAltName = ${wish.names}`);
  return signedBy(ca, wish.subject, [...profile, ...(wish.extensions ?? [])], wish);
}

export async function foreignIntermediate(ca: PemPair, wish: CertificateWish = {}): Promise<PemPair> {
  const profile = ['basicConstraints = critical, CA:TRUE, pathlen:0', 'keyUsage = critical, keyCertSign, cRLSign'];
  // Longer than a leaf's hour: one that is made in a later second must not outlive its issuer.
  const lasting = { notAfter: Date.now() + 2 * 3_600_000, ...wish };
  return signedBy(ca, '/O=Test/CN=Foreign Intermediate', [...profile, ...(wish.extensions ?? [])], lasting);
}

async function signedBy(ca: PemPair, subject: string, profile: readonly string[], wish: CertificateWish): Promise<PemPair> {
  await using folder = await tempFolder();
  const [caCert, caKey, key, csr, cert, config] = [
    folder.file('ca.crt'),
    folder.file('ca.key'),
    folder.file('own.key'),
    folder.file('own.csr'),
    folder.file('own.crt'),
    folder.file('ca.cnf'),
  ];
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40; // Positive, and as long as it looks.
  await Promise.all([
    writeFile(caCert, ca.certificate),
    writeFile(caKey, ca.key),
    writeFile(folder.file('index.txt'), ''),
    writeFile(folder.file('serial'), `${serial.toString('hex').toUpperCase()}\n`),
    writeFile(config, caConfig(folder.path, profile)),
  ]);
  await openssl(['req', '-new', ...(wish.keyArgs ?? ecKey), '-keyout', key, '-out', csr, '-subj', subject]);
  const dates = [
    '-startdate',
    openSslTime(wish.notBefore ?? Date.now() - 60_000),
    '-enddate',
    openSslTime(wish.notAfter ?? Date.now() + 3_600_000),
  ];
  const files = ['-cert', caCert, '-keyfile', caKey, '-in', csr, '-out', cert];
  await openssl(['ca', '-batch', '-notext', '-config', config, '-extensions', 'profile', ...files, ...dates]);
  return { certificate: await readFile(cert, 'utf8'), key: await readFile(key, 'utf8') };
}

function openSslTime(ms: number): string {
  return `${new Date(ms).toISOString().replaceAll(/[-:T]/g, '').slice(0, 14)}Z`;
}

function caConfig(folder: string, profile: readonly string[]): string {
  return `[ca]
default_ca = own
[own]
database = ${folder}/index.txt
serial = ${folder}/serial
new_certs_dir = ${folder}
default_md = sha256
policy = any
unique_subject = no
[any]
organizationName = optional
organizationalUnitName = optional
commonName = optional
[profile]
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
${profile.join('\n')}
`;
}
