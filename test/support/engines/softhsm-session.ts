import assert from 'node:assert/strict';
import pkcs11js from 'pkcs11js';
import type { Handle, PKCS11 } from 'pkcs11js';
import type { SoftHsm } from './softhsm.ts';

/** By the library itself, logged in as Signet is, for what Signet never does. */
function inSession<T>(hsm: SoftHsm, work: (library: PKCS11, session: Handle) => T): T {
  process.env['SOFTHSM2_CONF'] = hsm.env['SOFTHSM2_CONF'];
  const library = new pkcs11js.PKCS11();
  library.load(hsm.realModule);
  library.C_Initialize();
  try {
    const [slot] = library.C_GetSlotList(true);
    assert.ok(slot);
    const session = library.C_OpenSession(slot, pkcs11js.CKF_SERIAL_SESSION | pkcs11js.CKF_RW_SESSION);
    library.C_Login(session, pkcs11js.CKU_USER, hsm.pin);
    return work(library, session);
  } finally {
    library.C_Finalize();
    library.close();
  }
}

/** Asks for the private key's value, for the key wrapped by another, and to make it one that may be taken out. */
export function takePrivateKey(hsm: SoftHsm, isRsa: boolean): Buffer | undefined {
  return inSession(hsm, (library, session) => {
    library.C_FindObjectsInit(session, [{ type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_PRIVATE_KEY }]);
    const [key] = library.C_FindObjects(session, 1);
    library.C_FindObjectsFinal(session);
    assert.ok(key);
    const wrapper = library.C_GenerateKey(session, { mechanism: pkcs11js.CKM_AES_KEY_GEN }, [
      { type: pkcs11js.CKA_VALUE_LEN, value: 32 },
      { type: pkcs11js.CKA_WRAP, value: true },
    ]);
    const secret = isRsa ? pkcs11js.CKA_PRIVATE_EXPONENT : pkcs11js.CKA_VALUE;
    const attempts = [
      () => library.C_GetAttributeValue(session, key, [{ type: secret }])[0]?.value,
      () => library.C_WrapKey(session, { mechanism: pkcs11js.CKM_AES_KEY_WRAP_PAD }, wrapper, key, Buffer.alloc(8192)),
      () => {
        library.C_SetAttributeValue(session, key, [{ type: pkcs11js.CKA_EXTRACTABLE, value: true }]);
        return Buffer.from('it may be taken out now');
      },
    ];
    for (const attempt of attempts) {
      try {
        return attempt();
      } catch (error) {
        assert.match(String(error), /CKR_(ATTRIBUTE_SENSITIVE|KEY_UNEXTRACTABLE|ATTRIBUTE_READ_ONLY)/);
      }
    }
    return undefined;
  });
}

/** A key pair of a kind that no CA of ours has: P-521, or RSA of 1024 bits. */
export function makeOddKey(hsm: SoftHsm, id: string, kind: 'P-521' | 'RSA-1024'): void {
  inSession(hsm, (library, session) => {
    const named = [
      { type: pkcs11js.CKA_TOKEN, value: true },
      { type: pkcs11js.CKA_ID, value: Buffer.from(id, 'hex') },
    ];
    const ec = kind === 'P-521';
    library.C_GenerateKeyPair(
      session,
      { mechanism: ec ? pkcs11js.CKM_EC_KEY_PAIR_GEN : pkcs11js.CKM_RSA_PKCS_KEY_PAIR_GEN },
      [
        ...named,
        ec
          ? { type: pkcs11js.CKA_EC_PARAMS, value: Buffer.from('06052b81040023', 'hex') }
          : { type: pkcs11js.CKA_MODULUS_BITS, value: 1024 },
        ...(ec ? [] : [{ type: pkcs11js.CKA_PUBLIC_EXPONENT, value: Buffer.of(1, 0, 1) }]),
      ],
      [...named, { type: pkcs11js.CKA_SIGN, value: true }],
    );
  });
}
