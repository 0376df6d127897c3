/** A machine with a certificate of somebody else's CA gets an identity, and what it is issued renews by itself. */
import assert from 'node:assert/strict';
import { credentials } from '@grpc/grpc-js';
import { readFile, writeFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair, privateKeyPem } from '../../src/x509/keys.ts';
import type { KeyPair } from '../../src/x509/keys.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { pemEncode } from '../../src/x509/pem.ts';
import { eventually } from '../support/eventually.ts';
import { foreignCa, foreignClient, foreignIntermediate } from '../support/openssl.ts';
import type { PemPair } from '../support/openssl.ts';
import type { Refusal } from '../support/grpc-caller.ts';
import { tempFolder } from '../support/temp.ts';
import type { TempFolder } from '../support/temp.ts';
import { firstPod, wholeServer } from '../support/whole-server.ts';
import type { WholeServer } from '../support/whole-server.ts';

let files: TempFolder;
let whole: WholeServer;
let root: PemPair;
let intermediate: PemPair;

before(async () => {
  files = await tempFolder();
  root = await foreignCa('Machines');
  intermediate = await foreignIntermediate(root);
  await writeFile(files.file('machines.pem'), root.certificate + intermediate.certificate);
  whole = await wholeServer({
    identity: {
      issuers: [{ id: 'cluster', issuer: 'https://kubernetes.example', jwks: 'jwks.json', allow: ['**'] }],
      certificates: [{ id: 'machines', caFile: files.file('machines.pem'), path: '/vm/{/subject/CN}', allow: ['/vm/*'] }],
    },
  });
});
after(async () => {
  await whole[Symbol.asyncDispose]();
  await files[Symbol.asyncDispose]();
});

interface Signed {
  readonly chain: readonly Buffer[];
  readonly spiffe_id: string;
}

/** Asks for a certificate, over a connection that shows this one. */
async function sign(shown: PemPair | undefined, key: KeyPair, metadata: Record<string, string> = {}): Promise<Signed> {
  const ca = await readFile(`${whole.folder.data}/server-ca.pem`);
  const channel = shown ? credentials.createSsl(ca, Buffer.from(shown.key), Buffer.from(shown.certificate)) : credentials.createSsl(ca);
  return (await whole.doors.workloadAs(channel).call('SignCertificate', { csr: createCsr(key, []) }, metadata)) as Signed;
}

const refusal = (work: Promise<unknown>): Promise<Refusal> =>
  work.then(
    () => assert.fail('it was let in'),
    (error: unknown) => error as Refusal,
  );

describe('a certificate of an external CA', () => {
  it('gets an SVID by rule, which then renews itself without the first one', async () => {
    const machine = await foreignClient(intermediate, { subject: '/O=Shop/CN=db-1' });
    const shown = { certificate: machine.certificate + intermediate.certificate, key: machine.key };
    const key = generateKeyPair();
    const first = await sign(shown, key, { 'x-signet-instance': 'db-1' });
    const [leaf] = first.chain;
    assert.ok(leaf);
    assert.deepEqual(parseCertificate(leaf).uris, ['spiffe://example.org/vm/db-1']);

    const svid = { certificate: first.chain.map((der) => pemEncode('CERTIFICATE', der)).join(''), key: privateKeyPem(key.privateKey) };
    const second = await sign(svid, generateKeyPair());
    assert.deepEqual(parseCertificate(second.chain[0] ?? leaf).uris, ['spiffe://example.org/vm/db-1']);
    const { certificates } = (await whole.folder.admin().call('ListCertificates', {})) as {
      readonly certificates: readonly { readonly authenticated_by: string; readonly issuer: string }[];
    };
    assert.deepEqual(
      certificates.map(({ authenticated_by: by, issuer }) => [by, issuer]),
      [
        ['certificate', 'machines'],
        ['external-certificate', 'machines'],
      ],
    );
  });

  it('is no anchor for workloads, and a bad token beside it is refused all the same', async () => {
    const machine = await foreignClient(root, { subject: '/CN=db-1' });
    const bundle = await readFile(`${whole.folder.data}/bundle.pem`, 'utf8');
    assert.ok(!bundle.includes(root.certificate.trim().split('\n')[1] ?? ''));
    const refused = await refusal(sign(machine, generateKeyPair(), { authorization: 'Bearer not.a.token' }));
    assert.equal(refused.code, 16);
    const token = whole.folder.token({ serviceAccount: 'web', uid: firstPod });
    const byToken = await sign(machine, generateKeyPair(), { authorization: `Bearer ${token}` });
    assert.match(parseCertificate(byToken.chain[0] ?? Buffer.alloc(0)).uris[0] ?? '', /\/ns\/shop\/sa\/web$/);
  });

  it('of a stranger, or of nobody, is refused without a word of why', async () => {
    const stranger = await foreignClient(await foreignCa('Strangers'), { subject: '/CN=db-1' });
    const root2 = await foreignClient(root, { subject: '/CN=db-1', purpose: 'serverAuth' });
    for (const shown of [stranger, root2, undefined]) {
      const refused = await refusal(sign(shown, generateKeyPair()));
      assert.deepEqual([refused.code, refused.details], [16, 'authentication failed']);
    }
  });

  it('is taken of a CA that is added to the file while the server runs', async () => {
    const next = await foreignCa('More machines');
    const machine = await foreignClient(next, { subject: '/CN=db-2' });
    assert.equal((await refusal(sign(machine, generateKeyPair()))).code, 16);
    await writeFile(files.file('machines.pem'), root.certificate + intermediate.certificate + next.certificate);
    const signed = await eventually('the new CA', () => sign(machine, generateKeyPair()), 30_000, 500);
    assert.deepEqual(parseCertificate(signed.chain[0] ?? Buffer.alloc(0)).uris, ['spiffe://example.org/vm/db-2']);
  });
});
