import { generateKeyPairSync } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { SignetError } from '../../src/base/errors.ts';
import type { ErrorCode } from '../../src/base/errors.ts';
import type { Signer, SignerKeyKind } from '../../src/ca/signer.ts';
import { localSigner } from '../../src/x509/issuing-ca.ts';
import { spkiOf } from '../../src/x509/keys.ts';

const makers: Readonly<Record<SignerKeyKind, () => { readonly privateKey: KeyObject }>> = {
  'ec-p256': () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  'ec-p384': () => generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  'rsa-3072': () => generateKeyPairSync('rsa', { modulusLength: 3072 }),
};

/** A custodian that is none: a key in this process behind a delay, which fails as it is told to. */
export interface FakeCustodian {
  open(): Signer;
  /** What each signature ends with from now on. */
  fails: ErrorCode | undefined;
  /** How long each signature takes from now on. */
  delayMs: number;
}

export function fakeCustodian(kind: SignerKeyKind = 'ec-p256', delayMs = 0): FakeCustodian {
  // Out of reach even of an inspection of the signer.
  const { privateKey } = makers[kind]();
  const spki = spkiOf(privateKey);
  const local = localSigner(privateKey);
  const custodian: FakeCustodian = {
    fails: undefined,
    delayMs,
    open: () => ({
      type: 'fake',
      location: `a key of this process (${kind})`,
      spki,
      algorithm: local.algorithm,
      async sign(tbs, signal) {
        if (signal.aborted) throw SignetError.from(signal.reason);
        if (custodian.delayMs > 0) {
          await sleep(custodian.delayMs, undefined, { signal }).catch(() => {
            throw SignetError.from(signal.reason);
          });
        }
        if (custodian.fails) throw new SignetError(custodian.fails, 'as this test wants it');
        return local.sign(tbs);
      },
      health: () => Promise.resolve({ canSign: custodian.fails === undefined, detail: 'a key of this process' }),
      close: () => Promise.resolve(),
    }),
  };
  return custodian;
}
