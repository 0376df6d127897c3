import { randomBytes } from 'node:crypto';
import { SignetError } from '../../base/errors.ts';
import { DerReader, tag } from '../../x509/der-reader.ts';
import { bitString, der, oid, sequence, unsignedInteger } from '../../x509/der-writer.ts';
import { parseSubjectKey } from '../../x509/keys.ts';
import { curveOid, keyOid } from '../../x509/oids.ts';
import type { SignerKeyKind } from '../signer.ts';
import { ck, cka, cryptokiError, loadModule } from './cryptoki.ts';
import type { Attribute, Handle, Library } from './library.ts';
import type { Pkcs11Settings } from './settings.ts';

/** A token with its user logged in, and the one key that the settings name. It lives in the token's process. */
export interface Token {
  readonly spki: Buffer;
  /** Whether the token would hand the key out: not what an HSM is for. */
  readonly extractable: boolean;
  /** Of a digest (EC) or a DigestInfo (RSA): what the mechanism returns. At most `sessions` at once. Throws as a Signer does, or what the library threw. */
  sign(data: Buffer): Promise<Buffer>;
  /** Throws unless the token is there and its user logged in. */
  check(): void;
}

type Described = Pick<Pkcs11Settings, 'tokenLabel' | 'slot' | 'keyLabel' | 'keyId'>;

/** Slot and key, for messages. */
export function locationOf({ tokenLabel, slot, keyLabel, keyId }: Described): string {
  const where = tokenLabel === undefined ? `slot ${String(slot)}` : `token "${tokenLabel}"`;
  return [where, ...(keyLabel === undefined ? [] : [`key "${keyLabel}"`]), ...(keyId === undefined ? [] : [`id ${keyId}`])].join(', ');
}

const largestSignature = 1024;
const ecCurves = { '06082a8648ce3d030107': curveOid.p256, '06052b81040022': curveOid.p384 } as Readonly<Record<string, string>>;

export async function openToken(settings: Pkcs11Settings, pin: string): Promise<Token> {
  const library = await loadModule(settings.module);
  const slot = trying('the token could not be found', () => findSlot(library, settings));
  const first = logIn(library, slot, pin, ck.serialSession);
  const key = trying('the key could not be found', () => findKey(library, first, settings));
  const spki = trying('the public key could not be read', () => publicKeyOf(library, first, key, settings));
  const mechanism = { mechanism: parseSubjectKey(spki).algorithm === 'rsa' ? ck.rsaPkcs : ck.ecdsa };
  const idle = [first];
  const underWay = new Map<Handle, readonly Buffer[]>();

  function session(): Handle {
    const free = idle.pop();
    if (free) return free;
    if (underWay.size >= settings.sessions) throw new SignetError('AUTHORITY_UNAVAILABLE', 'PKCS#11: all sessions are in use');
    // Whoever has logged in once has done so in each session of the application (PKCS#11 v2.40 §5.6).
    return library.C_OpenSession(slot, ck.serialSession);
  }

  return {
    spki,
    extractable: isTrue(library, first, key, cka.extractable),
    async sign(data) {
      const own = session();
      const out = Buffer.alloc(largestSignature);
      // The library's thread works on bare pointers: somebody must hold both buffers until it is done.
      underWay.set(own, [data, out]);
      try {
        library.C_SignInit(own, mechanism, key);
        return Buffer.from(await library.C_SignAsync(own, data, out));
      } finally {
        underWay.delete(own);
        idle.push(own);
      }
    },
    check() {
      trying('the token does not answer', () => {
        library.C_GetTokenInfo(slot);
        library.C_GetSessionInfo(idle[0] ?? first);
      });
    },
  };
}

/** Makes a key pair that stays in the token; its CKA_ID in hex. AUTHORITY_REFUSED if the place is taken. */
export async function createTokenKey(settings: Pkcs11Settings, pin: string, kind: SignerKeyKind): Promise<string> {
  const library = await loadModule(settings.module);
  const slot = trying('the token could not be found', () => findSlot(library, settings));
  const session = logIn(library, slot, pin, ck.serialSession | ck.rwSession);
  const taken = trying('the token could not be searched', () => find(library, session, keyTemplate(ck.privateKey, settings)));
  if (taken.length > 0) {
    throw new SignetError(
      'AUTHORITY_REFUSED',
      `there is a key already: ${locationOf(settings)}. It is not replaced; use it (signet ca: --existing-key), or choose another keyLabel or keyId`,
    );
  }
  const id = settings.keyId === undefined ? randomBytes(16) : Buffer.from(settings.keyId, 'hex');
  const named: Attribute[] = [
    { type: cka.token, value: true },
    { type: cka.id, value: id },
    ...(settings.keyLabel === undefined ? [] : [{ type: cka.label, value: settings.keyLabel }]),
  ];
  const [mechanism, parameters] = generation(kind);
  trying('the key could not be made', () =>
    library.C_GenerateKeyPair(
      session,
      { mechanism },
      [...named, { type: cka.verify, value: true }, ...parameters],
      [
        ...named,
        { type: cka.private, value: true },
        { type: cka.sensitive, value: true },
        { type: cka.extractable, value: false },
        { type: cka.sign, value: true },
      ],
    ),
  );
  return id.toString('hex');
}

function generation(kind: SignerKeyKind): readonly [mechanism: number, parameters: readonly Attribute[]] {
  if (kind === 'rsa-3072') {
    const exponent = { type: cka.publicExponent, value: Buffer.of(1, 0, 1) };
    return [ck.rsaKeyPairGen, [{ type: cka.modulusBits, value: 3072 }, exponent]];
  }
  const curve = kind === 'ec-p256' ? curveOid.p256 : curveOid.p384;
  return [ck.ecKeyPairGen, [{ type: cka.ecParams, value: oid(curve) }]];
}

function findSlot(library: Library, { tokenLabel, slot }: Pkcs11Settings): Handle {
  const slots = library.C_GetSlotList(true);
  const labelled = slots.map((handle) => ({ handle, number: number(handle), label: labelOf(library, handle) }));
  const found = labelled.filter((one) => (tokenLabel === undefined ? one.number === slot : one.label === tokenLabel));
  const [only, second] = found;
  if (only && !second) return only.handle;
  const what =
    tokenLabel === undefined
      ? `no token in slot ${String(slot)}`
      : `${second ? 'several tokens are' : 'no token is'} labelled "${tokenLabel}"`;
  const there = labelled.map((one) => `"${one.label}" in slot ${String(one.number)}`).join(', ') || 'none';
  throw new SignetError('AUTHORITY_MISCONFIGURED', `PKCS#11: ${what}; the module shows: ${there}`);
}

/** An empty slot of a reader, or a token that fails, is no reason to leave the others out. */
function labelOf(library: Library, slot: Handle): string {
  try {
    return library.C_GetTokenInfo(slot).label.replace(/[\0 ]+$/, '');
  } catch {
    return '';
  }
}

function logIn(library: Library, slot: Handle, pin: string, flags: number): Handle {
  const session = trying('no session could be opened', () => library.C_OpenSession(slot, flags));
  trying('the login failed', () => {
    library.C_Login(session, ck.user, pin);
  });
  return session;
}

function keyTemplate(keyClass: number, { keyLabel, keyId }: Pick<Pkcs11Settings, 'keyLabel' | 'keyId'>): Attribute[] {
  return [
    { type: cka.class, value: keyClass },
    ...(keyLabel === undefined ? [] : [{ type: cka.label, value: keyLabel }]),
    ...(keyId === undefined ? [] : [{ type: cka.id, value: Buffer.from(keyId, 'hex') }]),
  ];
}

function find(library: Library, session: Handle, template: readonly Attribute[]): Handle[] {
  library.C_FindObjectsInit(session, template);
  try {
    return library.C_FindObjects(session, 2);
  } finally {
    library.C_FindObjectsFinal(session);
  }
}

function findKey(library: Library, session: Handle, settings: Pkcs11Settings): Handle {
  const [key, second] = find(library, session, keyTemplate(ck.privateKey, settings));
  if (!key) {
    throw new SignetError(
      'AUTHORITY_MISCONFIGURED',
      `PKCS#11: there is no private key there: ${locationOf(settings)}. \`signet ca init\` makes one`,
    );
  }
  if (second)
    throw new SignetError(
      'AUTHORITY_MISCONFIGURED',
      `PKCS#11: several private keys are there: ${locationOf(settings)}. Give keyId as well`,
    );
  if (isTrue(library, session, key, cka.alwaysAuthenticate)) {
    throw new SignetError(
      'AUTHORITY_MISCONFIGURED',
      'PKCS#11: the key wants its PIN for each signature (CKA_ALWAYS_AUTHENTICATE): make one that does not',
    );
  }
  return key;
}

/** The SubjectPublicKeyInfo, from the public key that has the private key's CKA_ID; RSA's parameters are on the private key as well. */
function publicKeyOf(library: Library, session: Handle, key: Handle, settings: Pkcs11Settings): Buffer {
  const read = (object: Handle, type: number): Buffer =>
    library.C_GetAttributeValue(session, object, [{ type }])[0]?.value ?? Buffer.alloc(0);
  const type = number(read(key, cka.keyType));
  let spki: Buffer;
  if (type === ck.rsa) {
    const pair = sequence(unsignedInteger(read(key, cka.modulus)), unsignedInteger(read(key, cka.publicExponent)));
    spki = sequence(sequence(oid(keyOid.rsa), der(tag.null)), bitString(pair));
  } else if (type === ck.ec) {
    const keyId = read(key, cka.id).toString('hex');
    const [object] = find(library, session, keyTemplate(ck.publicKey, keyId === '' ? settings : { keyId }));
    if (!object) {
      throw new SignetError(
        'AUTHORITY_MISCONFIGURED',
        `PKCS#11: the public key is not in the token beside the private one (${locationOf(settings)}): import it with the same CKA_ID`,
      );
    }
    const curve = ecCurves[read(object, cka.ecParams).toString('hex')];
    if (curve === undefined) throw new SignetError('AUTHORITY_MISCONFIGURED', 'PKCS#11: the key is on another curve than P-256 and P-384');
    spki = sequence(sequence(oid(keyOid.ec), oid(curve)), bitString(ecPoint(read(object, cka.ecPoint))));
  } else throw new SignetError('AUTHORITY_MISCONFIGURED', 'PKCS#11: the key is neither EC nor RSA');
  try {
    return parseSubjectKey(spki).spki;
  } catch (error) {
    throw new SignetError('AUTHORITY_MISCONFIGURED', `PKCS#11: ${SignetError.from(error).message}`, { cause: error });
  }
}

/** A DER OCTET STRING (PKCS#11 v2.40 current mechanisms §2.3.3), though some tokens give the bare point. */
function ecPoint(value: Buffer): Buffer {
  const refuse = (what: string): SignetError => new SignetError('AUTHORITY_MISCONFIGURED', `PKCS#11: the EC point is ${what}`);
  const wrapped = value[0] === tag.octetString && value[1] === value.length - 2;
  return wrapped ? new DerReader(value, refuse).content(tag.octetString) : value;
}

/** False as well where the token doesn't know the attribute. */
function isTrue(library: Library, session: Handle, object: Handle, type: number): boolean {
  try {
    return library.C_GetAttributeValue(session, object, [{ type }])[0]?.value[0] === 1;
  } catch {
    return false;
  }
}

/** A CK_ULONG in this machine's order; all that we read are small. */
function number(value: Buffer): number {
  return value.readUIntLE(0, Math.min(6, value.length));
}

function trying<T>(doing: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw cryptokiError(error, doing);
  }
}
