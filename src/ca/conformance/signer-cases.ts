import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import type { ErrorCode, SignetError } from '../../base/errors.ts';
import { parseTrustDomain, spiffeId } from '../../spiffe/id.ts';
import { signRootCertificate } from '../../x509/ca-certificate.ts';
import { verifyChain } from '../../x509/chain.ts';
import { generateKeyPair, parseSubjectKey } from '../../x509/keys.ts';
import { createLeafIssuer } from '../../x509/leaf.ts';
import { signatureOid } from '../../x509/oids.ts';
import { signatureHolds } from '../../x509/signature.ts';
import type { Signer, SignerKeyKind } from '../signer.ts';
import { cancellationMs, fails, noticeMs, within } from './authority-under-test.ts';

/** What only the one who runs the custodian can do to it. */
export interface SignerFaults {
  /** Nobody answers from now on; `start` brings the same custodian back, with the same key. */
  readonly outage: { stop(): Promise<void>; start(): Promise<void> };
  /** Opens with a credential that the custodian refuses. */
  openRefused(): Promise<Signer>;
  /** Opens one that names a key that the custodian doesn't have. */
  openMissing(): Promise<Signer>;
  /** From now on the key may not sign; what is returned lets it again. */
  disable(): Promise<() => Promise<void>>;
  /** From now on the custodian says "too many requests"; what is returned ends that. */
  throttle(): Promise<() => Promise<void>>;
  /** Ends what `opened` has with the custodian (a session, a lease, a token); its own credential is still good. */
  loseSession(opened: Signer): Promise<void>;
  /** Asks for a new key where this one is. */
  createAgain(): Promise<unknown>;
  /** Tries all that our credential may do to get the private key out; what came out, or undefined. */
  takeKey(): Promise<Buffer | undefined>;
}

export type SignerFaultName = keyof SignerFaults;

export interface SignerUnderTest {
  readonly kind: SignerKeyKind;
  /** After a close it may be opened again, and has the same key. */
  open(): Promise<Signer>;
  /** Credentials that must not be in what an error says. */
  readonly secrets: readonly string[];
  readonly faults: Partial<SignerFaults>;
}

/** A signer that is open, from case to case. */
export interface OpenSigner {
  readonly subject: SignerUnderTest;
  signer: Signer;
}

export interface SignerCase {
  readonly name: string;
  /** What the harness must be able to do, or the case is not run. */
  readonly needs?: SignerFaultName;
  run(held: OpenSigner): Promise<void>;
}

const never = new AbortController().signal;
const hourMs = 3_600_000;

const expectedOf: Readonly<Record<SignerKeyKind, { algorithm: Signer['algorithm']; oid: string; key: string; bits: number }>> = {
  'ec-p256': { algorithm: 'ecdsa-sha256', oid: signatureOid.ecdsaSha256, key: 'ec-p256', bits: 256 },
  'ec-p384': { algorithm: 'ecdsa-sha384', oid: signatureOid.ecdsaSha384, key: 'ec-p384', bits: 384 },
  'rsa-3072': { algorithm: 'rsa-sha256', oid: signatureOid.rsaSha256, key: 'rsa', bits: 3072 },
};

/** A TBSCertificate of ours has 300 to 4,000 bytes; the signer is told nothing of what they are. */
const message = (size = 400): Buffer => randomBytes(size);

/** As a verifier of certificates does it: strict DER for ECDSA (RFC 3279 §2.2.3), PKCS#1 v1.5 for RSA. */
function holds({ subject, signer }: OpenSigner, tbs: Buffer, signature: Buffer): boolean {
  return signatureHolds(expectedOf[subject.kind].oid, tbs, parseSubjectKey(signer.spki).publicKey, signature);
}

async function signsWell(held: OpenSigner, tbs = message()): Promise<void> {
  assert.ok(holds(held, tbs, await held.signer.sign(tbs, never)), `the signature over ${String(tbs.length)} bytes does not verify`);
}

async function failsWithoutSecret(held: OpenSigner, work: () => Promise<unknown>, codes: readonly ErrorCode[]): Promise<SignetError> {
  const error = await fails(work, codes);
  const shown = inspect(error, { depth: 8 });
  for (const secret of held.subject.secrets) assert.ok(!shown.includes(secret), 'the error holds a credential');
  return error;
}

/** A fault may show when the signer is opened or when it signs. */
async function openingOrSigning(open: () => Promise<Signer>): Promise<void> {
  const signer = await open();
  try {
    await signer.sign(message(), never);
  } finally {
    await signer.close();
  }
}

/** What every signer promises, whoever keeps the key. In this order: the last ones disturb the custodian. */
export const signerCases: readonly SignerCase[] = [
  {
    name: 'says what key it has: of the kind that was asked for, in a SubjectPublicKeyInfo that everybody takes',
    run({ subject, signer }) {
      const expected = expectedOf[subject.kind];
      const { algorithm, bits } = parseSubjectKey(signer.spki);
      assert.deepEqual([signer.algorithm, algorithm, bits], [expected.algorithm, expected.key, expected.bits]);
      assert.notEqual(signer.location, '');
      return Promise.resolve();
    },
  },
  {
    name: "its signatures are in X.509's form and verify with its public key",
    async run(held) {
      // One of 128 has an r or s that is shorter than its curve, each second one an integer that needs a sign octet.
      for (let i = 0; i < 64; i++) await signsWell(held);
    },
  },
  {
    name: 'signs whatever is as long as a TBSCertificate may be',
    async run(held) {
      for (const size of [1, 55, 56, 64, 4000]) await signsWell(held, message(size));
    },
  },
  {
    name: 'is the key of a CA: a root and a leaf by it verify',
    async run({ signer }) {
      const notBefore = Math.floor(Date.now() / 1000) * 1000 - 60_000;
      const dates = { notBefore, notAfter: notBefore + hourMs };
      const root = await signRootCertificate(
        { spki: signer.spki, signer, commonName: 'Conformance', organization: 'Signet', ...dates },
        never,
      );
      const { spki } = generateKeyPair();
      const id = spiffeId(parseTrustDomain('example.org'), ['web']);
      const { der: leaf } = await createLeafIssuer({ certificate: root, signer }).issue({ spki, spiffeId: id, ...dates }, never);
      verifyChain([leaf], [root], Date.now());
    },
  },
  {
    name: 'refuses a call that was cancelled before it began',
    async run({ signer }) {
      await fails(() => signer.sign(message(), AbortSignal.abort()), ['CANCELLED']);
    },
  },
  {
    name: 'settles within 100 ms of being cancelled',
    async run({ signer }) {
      for (const afterMs of [0, 1, 5, 20]) {
        const stop = new AbortController();
        const signing = signer.sign(message(), stop.signal).then(
          () => 'settled',
          () => 'settled',
        );
        await sleep(afterMs);
        stop.abort();
        // Both wait on one event loop, so a busy machine delays them alike.
        const late = sleep(cancellationMs, 'still busy', { ref: false });
        assert.equal(await Promise.race([signing, late]), 'settled', `cancelled after ${String(afterMs)} ms`);
      }
    },
  },
  {
    name: 'signs on after many were cancelled',
    async run(held) {
      const stop = new AbortController();
      const cancelled = Array.from({ length: 100 }, () => held.signer.sign(message(), stop.signal));
      stop.abort();
      const codes = (await Promise.allSettled(cancelled)).flatMap((one) =>
        one.status === 'rejected' ? [(one.reason as SignetError).code] : [],
      );
      assert.deepEqual([...new Set(codes)], codes.length === 0 ? [] : ['CANCELLED']);
      await signsWell(held);
    },
  },
  {
    name: 'signs many at once, each its own',
    async run(held) {
      const asked = Array.from({ length: 64 }, (_, i) => message(300 + i));
      const signatures = await Promise.all(asked.map((tbs) => held.signer.sign(tbs, never)));
      for (const [i, tbs] of asked.entries()) assert.ok(holds(held, tbs, signatures[i] ?? Buffer.alloc(0)), `number ${String(i)}`);
    },
  },
  {
    name: 'says that it can sign, and where',
    async run({ signer }) {
      const { canSign, detail } = await signer.health(never);
      assert.equal(canSign, true, detail);
      assert.notEqual(detail, '');
    },
  },
  {
    name: 'has no private key in reach, nor a credential on show',
    run({ subject, signer }) {
      const shown = inspect(signer, { depth: 20, showHidden: true, maxStringLength: Infinity, maxArrayLength: Infinity });
      assert.doesNotMatch(shown, /PRIVATE KEY|PrivateKeyObject/);
      for (const secret of subject.secrets) assert.ok(!shown.includes(secret));
      return Promise.resolve();
    },
  },
  {
    name: 'has the same key after a restart',
    async run(held) {
      const { spki, location } = held.signer;
      await held.signer.close();
      held.signer = await held.subject.open();
      assert.ok(held.signer.spki.equals(spki), 'the key is another one');
      assert.equal(held.signer.location, location);
      await signsWell(held);
    },
  },
  {
    name: 'gives its key to nobody',
    needs: 'takeKey',
    async run({ subject }) {
      assert.equal(await subject.faults.takeKey?.(), undefined);
    },
  },
  {
    name: 'makes no second key where one is',
    needs: 'createAgain',
    async run(held) {
      const { createAgain } = held.subject.faults;
      assert.ok(createAgain);
      await failsWithoutSecret(held, createAgain, ['AUTHORITY_REFUSED']);
      await signsWell(held);
    },
  },
  {
    name: 'says that a credential is refused',
    needs: 'openRefused',
    async run(held) {
      const { openRefused } = held.subject.faults;
      assert.ok(openRefused);
      await failsWithoutSecret(held, () => openingOrSigning(openRefused), ['AUTHORITY_REFUSED']);
      await signsWell(held);
    },
  },
  {
    name: 'says that the key is not there, and not that the custodian is away',
    needs: 'openMissing',
    async run(held) {
      const { openMissing } = held.subject.faults;
      assert.ok(openMissing);
      await failsWithoutSecret(held, () => openingOrSigning(openMissing), ['AUTHORITY_MISCONFIGURED']);
    },
  },
  {
    name: 'signs on when its session or token was taken away',
    needs: 'loseSession',
    async run(held) {
      const { loseSession } = held.subject.faults;
      assert.ok(loseSession);
      await loseSession(held.signer);
      await within(noticeMs, 'signs again', () => signsWell(held));
    },
  },
  {
    name: 'says that it is throttled, and signs again afterwards',
    needs: 'throttle',
    async run(held) {
      const { throttle } = held.subject.faults;
      assert.ok(throttle);
      const lift = await throttle();
      await failsWithoutSecret(held, async () => {
        // A quota lets the first ones through.
        for (let i = 0; i < 200; i++) await held.signer.sign(message(), never);
      }, ['AUTHORITY_THROTTLED']);
      await lift();
      await within(noticeMs, 'signs again', () => signsWell(held));
    },
  },
  {
    name: 'says that its key is disabled, and signs again once it is not',
    needs: 'disable',
    async run(held) {
      const { disable } = held.subject.faults;
      assert.ok(disable);
      const enable = await disable();
      await failsWithoutSecret(held, () => held.signer.sign(message(), never), ['AUTHORITY_REFUSED', 'AUTHORITY_MISCONFIGURED']);
      await enable();
      await within(noticeMs, 'signs again', () => signsWell(held));
    },
  },
  {
    name: 'says that the custodian is away, and signs again when it is back',
    needs: 'outage',
    async run(held) {
      const { outage } = held.subject.faults;
      assert.ok(outage);
      await outage.stop();
      try {
        await failsWithoutSecret(held, () => held.signer.sign(message(), AbortSignal.timeout(5000)), [
          'AUTHORITY_UNAVAILABLE',
          'DEADLINE_EXCEEDED',
        ]);
        assert.equal((await held.signer.health(AbortSignal.timeout(5000)).catch(() => ({ canSign: false }))).canSign, false);
      } finally {
        await outage.start();
      }
      await within(noticeMs, 'signs again', () => signsWell(held));
    },
  },
];
