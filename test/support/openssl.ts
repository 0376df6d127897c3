import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runProgram } from './process.ts';
import { tempFolder } from './temp.ts';

export interface PemPair {
  readonly certificate: string;
  readonly key: string;
}

async function openssl(args: readonly string[]): Promise<void> {
  const ran = await runProgram('openssl', args);
  if (ran.code !== 0) throw new Error(`openssl ${args.join(' ')}: ${ran.stderr}`);
}

const ecKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'] as const;

/** A self-signed CA that has nothing to do with ours. */
export async function foreignCa(commonName = 'Foreign Root', keyArgs: readonly string[] = ecKey): Promise<PemPair> {
  await using folder = await tempFolder();
  const [cert, key] = [folder.file('ca.crt'), folder.file('ca.key')];
  const extensions = ['-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign,cRLSign'];
  await openssl(['req', '-x509', ...keyArgs, '-keyout', key, '-out', cert, '-subj', `/O=Test/CN=${commonName}`, '-days', '2', ...extensions]);
  return { certificate: await readFile(cert, 'utf8'), key: await readFile(key, 'utf8') };
}

/** `notBefore` and `notAfter` are ms since the epoch; OpenSSL's resolution is a second. */
export interface LeafWish {
  readonly uri: string;
  readonly keyArgs?: readonly string[];
  readonly notBefore?: number;
  readonly notAfter?: number;
  readonly extensions?: readonly string[];
}

const openSslTime = (ms: number): string => `${new Date(ms).toISOString().replaceAll(/[-:T]/g, '').slice(0, 14)}Z`;

/** A leaf of that CA with a SPIFFE ID, made by a program that shares no line with ours. */
export async function foreignLeaf(ca: PemPair, wish: LeafWish): Promise<PemPair> {
  await using folder = await tempFolder();
  const [caCert, caKey, key, csr, cert] = ['ca.crt', 'ca.key', 'leaf.key', 'leaf.csr', 'leaf.crt'].map((name) => join(folder.path, name)) as [
    string, string, string, string, string,
  ];
  await Promise.all([writeFile(caCert, ca.certificate), writeFile(caKey, ca.key), writeFile(folder.file('index.txt'), '')]);
  await openssl(['req', '-new', ...(wish.keyArgs ?? ecKey), '-keyout', key, '-out', csr, '-subj', '/CN=ignored']);
  const serial = Buffer.from(crypto.getRandomValues(new Uint8Array(16)));
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  await writeFile(folder.file('serial'), `${serial.toString('hex').toUpperCase()}\n`);
  const config = `[ca]
default_ca = own
[own]
database = ${folder.file('index.txt')}
serial = ${folder.file('serial')}
new_certs_dir = ${folder.path}
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = optional
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = URI:${wish.uri}
${(wish.extensions ?? []).join('\n')}
`;
  await writeFile(folder.file('ca.cnf'), config);
  const [from, to] = [wish.notBefore ?? Date.now() - 60_000, wish.notAfter ?? Date.now() + 3_600_000].map(openSslTime) as [string, string];
  const dates = ['-startdate', from, '-enddate', to];
  const files = ['-cert', caCert, '-keyfile', caKey, '-in', csr, '-out', cert];
  await openssl(['ca', '-batch', '-notext', '-config', folder.file('ca.cnf'), '-extensions', 'leaf', ...files, ...dates]);
  return { certificate: await readFile(cert, 'utf8'), key: await readFile(key, 'utf8') };
}
