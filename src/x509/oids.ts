/** Object identifiers as the hex of their DER content octets: what a reader compares and a writer copies. */
export const keyOid = {
  ec: '2a8648ce3d0201', // 1.2.840.10045.2.1 (RFC 5480)
  rsa: '2a864886f70d010101', // 1.2.840.113549.1.1.1 (RFC 8017)
} as const;

export const curveOid = {
  p256: '2a8648ce3d030107', // 1.2.840.10045.3.1.7
  p384: '2b81040022', // 1.3.132.0.34
} as const;

/** Keys and curves that we refuse, so that the refusal can name them. */
export const refusedKeyNames: ReadonlyMap<string, string> = new Map([
  ['2b6570', 'Ed25519'],
  ['2b6571', 'Ed448'],
  ['2b656e', 'X25519'],
  ['2b656f', 'X448'],
  ['2a864886f70d01010a', 'RSASSA-PSS'],
  ['2a8648ce380401', 'DSA'],
  ['2b81040023', 'P-521'],
  ['2b81040021', 'P-224'],
  ['2a8648ce3d030101', 'P-192'],
  ['2b8104000a', 'secp256k1'],
]);

export const signatureOid = {
  ecdsaSha256: '2a8648ce3d040302',
  ecdsaSha384: '2a8648ce3d040303',
  ecdsaSha512: '2a8648ce3d040304',
  rsaSha256: '2a864886f70d01010b',
  rsaSha384: '2a864886f70d01010c',
  rsaSha512: '2a864886f70d01010d',
  ed25519: '2b6570',
} as const;

export const digestOid = {
  sha256: '608648016503040201', // 2.16.840.1.101.3.4.2.1
} as const;

/** PKCS#5 (RFC 8018) and scrypt (RFC 7914). */
export const encryptionOid = {
  pbes2: '2a864886f70d01050d', // 1.2.840.113549.1.5.13
  scrypt: '2b06010401da47040b', // 1.3.6.1.4.1.11591.4.11
  aes256Cbc: '60864801650304012a', // 2.16.840.1.101.3.4.1.42
} as const;

export const refusedSignatureNames: ReadonlyMap<string, string> = new Map([
  ['2a864886f70d010105', 'RSA with SHA-1'],
  ['2a864886f70d010104', 'RSA with MD5'],
  ['2a864886f70d01010a', 'RSASSA-PSS'],
  ['2a8648ce3d0401', 'ECDSA with SHA-1'],
  ['2a8648ce3d040301', 'ECDSA with SHA-224'],
  ['2b6571', 'Ed448'],
]);

export const extensionOid = {
  subjectKeyId: '551d0e',
  keyUsage: '551d0f',
  subjectAltName: '551d11',
  basicConstraints: '551d13',
  nameConstraints: '551d1e',
  certificatePolicies: '551d20',
  policyMappings: '551d21',
  authorityKeyId: '551d23',
  policyConstraints: '551d24',
  extendedKeyUsage: '551d25',
  inhibitAnyPolicy: '551d36',
} as const;

/** TLS feature (RFC 7633): must-staple. */
export const tlsFeatureOid = '2b06010505070118';

/** PKCS#9 extensionRequest (RFC 2985 §5.4.2). */
export const extensionRequestOid = '2a864886f70d01090e';

export const purposeOid = {
  serverAuth: '2b06010505070301',
  clientAuth: '2b06010505070302',
} as const;

export const attributeOid = {
  commonName: '550403',
  organization: '55040a',
} as const;

/** For people: short names of the attributes that occur in a Name. */
export const attributeNames: ReadonlyMap<string, string> = new Map([
  ['550403', 'CN'],
  ['550405', 'serialNumber'],
  ['550406', 'C'],
  ['550407', 'L'],
  ['550408', 'ST'],
  ['55040a', 'O'],
  ['55040b', 'OU'],
  ['0992268993f22c640119', 'DC'],
]);

/** PKCS#12 (RFC 7292) and PKCS#9 (RFC 2985), and the mark by which Java knows an anchor (JDK's PKCS12KeyStore). */
export const pkcs12Oid = {
  data: '2a864886f70d010701', // 1.2.840.113549.1.7.1
  shroudedKeyBag: '2a864886f70d010c0a0102', // 1.2.840.113549.1.12.10.1.2
  certBag: '2a864886f70d010c0a0103', // 1.2.840.113549.1.12.10.1.3
  x509Certificate: '2a864886f70d01091601', // 1.2.840.113549.1.9.22.1
  friendlyName: '2a864886f70d010914', // 1.2.840.113549.1.9.20
  localKeyId: '2a864886f70d010915', // 1.2.840.113549.1.9.21
  sha256: '608648016503040201', // 2.16.840.1.101.3.4.2.1
  oracleTrustedKeyUsage: '6086480186f966adca7b0101', // 2.16.840.1.113894.746875.1.1
  anyExtendedKeyUsage: '551d2500', // 2.5.29.37.0
} as const;
