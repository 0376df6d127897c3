import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createMetrics } from '../../../src/observe/metrics.ts';

async function filled() {
  const metrics = createMetrics('1.2.3');
  let expiry: number | undefined = 12.5;
  metrics.watch({
    streams: () => ({ sotw: 3, delta: 4 }),
    earliestExpirySeconds: () => expiry,
    overdueRenewals: () => 2,
    circuits: () => [{ authority: 'vault', state: 'half-open' }],
    waiting: () => 5,
    trustGeneration: () => 7,
    ready: () => true,
    jwtKeyAges: () => ({ active: 90, prepared: expiry === undefined ? undefined : 30 }),
  });
  metrics.jwtSvidIssued();
  metrics.issued('builtin', 'csr', 0.002);
  metrics.issuanceFailed('AUTHORITY_UNAVAILABLE');
  metrics.turnedAway('total-rate');
  metrics.rotated('csr');
  metrics.authenticated('token');
  metrics.authenticationFailed('expired');
  metrics.sent('identity');
  metrics.acknowledged('validation');
  metrics.rejected('key-mismatch');
  metrics.bundlePublication('ConfigMap', 'put-back');
  metrics.publishing(true);
  metrics.requestDone({ method: 'signet.v1.CertificateService/SignCertificate', code: 'OK', seconds: 0.01 });
  const before = (await metrics.page()).text;
  expiry = undefined;
  return { before, after: (await metrics.page()).text };
}

describe('the metrics page', () => {
  it('counts what happened and reads what is', async () => {
    const { before } = await filled();
    for (const line of [
      'signet_certificates_issued_total{authority="builtin",mode="csr"} 1',
      'signet_issuance_failures_total{reason="AUTHORITY_UNAVAILABLE"} 1',
      'signet_issuance_duration_seconds_count{mode="csr"} 1',
      'signet_issuance_turned_away_total{reason="total-rate"} 1',
      'signet_issuance_waiting 5',
      'signet_bundle_publications_total{kind="ConfigMap",outcome="put-back"} 1',
      'signet_bundle_publisher 1',
      'signet_rotations_total{mode="csr"} 1',
      'signet_authentication_failures_total{reason="expired"} 1',
      'signet_secret_acks_total{type="validation"} 1',
      'signet_secret_nacks_total{class="key-mismatch"} 1',
      'signet_streams{api="sotw"} 3',
      'signet_streams{api="delta"} 4',
      'signet_earliest_expiry_seconds 12.5',
      'signet_renewals_overdue 2',
      'signet_authority_circuit_state{authority="vault",state="closed"} 0',
      'signet_authority_circuit_state{authority="vault",state="open"} 0',
      'signet_authority_circuit_state{authority="vault",state="half-open"} 1',
      'signet_trust_generation 7',
      'signet_jwt_svids_issued_total 1',
      'signet_jwt_key_age_seconds{state="active"} 90',
      'signet_jwt_key_age_seconds{state="prepared"} 30',
      'signet_ready 1',
      'signet_build_info{version="1.2.3"} 1',
    ])
      assert.ok(before.split('\n').includes(line), `${line} is missing`);
    assert.match(before, /^process_cpu_seconds_total /m);
    assert.match(before, /^nodejs_eventloop_lag_seconds /m);
  });

  it('shows no earliest end when nothing is held: no alert may fire on a zero', async () => {
    const { after } = await filled();
    assert.doesNotMatch(after, /^signet_earliest_expiry_seconds /m);
    assert.doesNotMatch(after, /state="prepared"/);
  });

  it('keeps to the rules that promtool checks: help, counters end in _total, base units', async () => {
    const { before } = await filled();
    const types = new Map([...before.matchAll(/^# TYPE (signet_\S+) (\S+)$/gm)].map((match) => [match[1] ?? '', match[2] ?? '']));
    assert.ok(types.size >= 12);
    for (const [name, type] of types) {
      assert.match(before, new RegExp(`^# HELP ${name} .+\\.$`, 'm'));
      assert.equal(name.endsWith('_total'), type === 'counter', name);
      assert.doesNotMatch(name, /_(ms|milliseconds|minutes|count|sum|bucket)$/);
    }
  });

  it('of one server has nothing of another in the same process', async () => {
    await filled();
    assert.doesNotMatch((await createMetrics('0').page()).text, /signet_rotations_total\{/);
  });
});
