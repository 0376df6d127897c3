import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { judgeRequest } from '../../../../src/ca/cert-manager/request-object.ts';
import { judgeCsr } from '../../../../src/ca/kubernetes-csr/csr-object.ts';
import { askedSeconds } from '../../../../src/ca/kubernetes/asked-life.ts';
import { issuedChain } from '../../../../src/ca/kubernetes/issued-chain.ts';
import type { Verdict } from '../../../../src/ca/kubernetes/verdict.ts';
import { testPki } from '../../../support/test-pki.ts';
import { certificatesFromPem } from '../../../../src/x509/pem.ts';

const certificate = Buffer.from('PEM').toString('base64');
const condition = (type: string, status = 'True', reason = 'Because', message = '') => ({ type, status, reason, message });
const told = (verdict: Verdict): string =>
  verdict.kind === 'failed' ? `${verdict.error.code} ${verdict.error.message}` : verdict.kind === 'waiting' ? verdict.detail : verdict.pem;

describe('how a CertificateSigningRequest stands', () => {
  const judge = (conditions: object[], more = {}): string => told(judgeCsr({ status: { conditions, ...more } }));

  it('is told by its conditions, the worst first', () => {
    assert.equal(told(judgeCsr({})), 'not approved');
    assert.equal(judge([condition('Approved')]), 'approved, but not signed');
    assert.equal(judge([condition('Approved')], { certificate }), 'PEM');
    assert.match(judge([condition('Denied')], { certificate }), /^AUTHORITY_REFUSED.*denied \(Because\)/);
    assert.match(judge([condition('Approved'), condition('Failed')]), /^AUTHORITY_REFUSED.*could not issue/);
  });

  it('takes no more of what somebody wrote there than fits into a line', () => {
    const message = judge([condition('Denied', 'True', 'R', `\u001b[2J${'x'.repeat(5000)}`)]);
    assert.ok(message.length < 400 && !message.includes('\u001b'));
  });
});

describe('how a CertificateRequest stands', () => {
  const judge = (conditions: object[], more = {}): string => told(judgeRequest({ status: { conditions, ...more } }));

  it('is told by its conditions', () => {
    assert.equal(told(judgeRequest({})), 'not approved');
    assert.equal(judge([condition('Approved')]), 'approved, but not signed');
    assert.equal(judge([condition('Ready', 'True', 'Issued')], { certificate }), 'PEM');
    assert.equal(
      judge([condition('Ready', 'False', 'Pending', 'wait')], { certificate }),
      'Pending: wait',
      'a certificate that is not ready is none',
    );
    assert.match(judge([condition('Denied')]), /^AUTHORITY_REFUSED/);
    assert.match(judge([condition('InvalidRequest')]), /^AUTHORITY_REFUSED/);
    assert.match(judge([condition('Ready', 'False', 'Failed', 'vault is sealed')]), /^AUTHORITY_UNAVAILABLE.*vault is sealed/);
  });

  it('never is a word on whom to trust', () => {
    assert.doesNotMatch(
      JSON.stringify(judgeRequest({ status: { ca: certificate, certificate, conditions: [condition('Ready', 'True')] } })),
      /ca/,
    );
  });
});

describe('what comes back', () => {
  it('is the chain without its root, whoever appended one', async () => {
    const pki = await testPki();
    const { leaf, certificatePem } = await pki.client('spiffe://example.org/ns/shop/sa/web');
    for (const roots of [[pki.root], []]) {
      const { chain, issuersEnd } = issuedChain('k', certificatePem + pki.rootPem, roots);
      assert.deepEqual(chain.certificates, [leaf, pki.intermediate]);
      assert.ok(Number.isFinite(issuersEnd));
    }
    const other = certificatesFromPem((await testPki('other')).rootPem);
    assert.deepEqual(issuedChain('k', certificatePem, other).chain.certificates, [leaf, pki.intermediate]);
  });

  it('is named when it is no chain', () => {
    for (const pem of ['', 'garbage', '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n'])
      assert.throws(() => issuedChain('k', pem, []), { code: 'AUTHORITY_MISBEHAVED', message: /CA backend k returned something else/ });
  });

  it('was asked for with time to sign in', () => {
    assert.equal(askedSeconds({ notAfter: 20_000 }, 0), 18);
    assert.equal(askedSeconds({ notAfter: 86_400_000 }, 0), 86_390);
  });
});
