import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { createAgentMetrics } from '../../../src/observe/agent-metrics.ts';

describe("an agent's metrics page", () => {
  it('says of each workload what there is to say, and nothing of a certificate that there is not', async () => {
    const metrics = createAgentMetrics('1.2.3');
    let expirySeconds: number | undefined = 30;
    metrics.watch({
      streams: () => ({ sotw: 1, delta: 2 }),
      workloads: () => [{ name: 'web', expirySeconds, renewalSeconds: 12.5, connected: true, laggards: 1 }],
      ready: () => expirySeconds !== undefined,
    });
    metrics.renewed('web', 0.0045);
    metrics.renewalFailed('web', 'AUTHORITY_UNAVAILABLE');
    metrics.sent('identity');
    metrics.rejected('bad-trust');
    const { text } = await metrics.page();
    for (const line of [
      'signet_agent_certificate_expiry_seconds{workload="web"} 30',
      'signet_agent_renewal_seconds{workload="web"} 12.5',
      'signet_agent_renewals_total{workload="web"} 1',
      'signet_agent_renewal_failures_total{workload="web",reason="AUTHORITY_UNAVAILABLE"} 1',
      // Of all workloads together: a thousand of them make no thousand histograms.
      'signet_agent_renewal_duration_seconds_bucket{le="0.004"} 0',
      'signet_agent_renewal_duration_seconds_bucket{le="0.005"} 1',
      'signet_agent_trust_connected{workload="web"} 1',
      'signet_agent_trust_laggards{workload="web"} 1',
      'signet_streams{api="delta"} 2',
      'signet_secrets_sent_total{type="identity"} 1',
      'signet_secret_nacks_total{class="bad-trust"} 1',
      'signet_ready 1',
    ])
      assert.ok(text.includes(`${line}\n`), line);
    expirySeconds = undefined;
    const later = (await metrics.page()).text;
    assert.doesNotMatch(later, /^signet_agent_certificate_expiry_seconds\{/m);
    assert.match(later, /^signet_ready 0$/m);
  });

  it('is documented, metric by metric', async () => {
    const metrics = createAgentMetrics('1.2.3');
    metrics.watch({ streams: () => ({ sotw: 0, delta: 0 }), workloads: () => [], ready: () => true });
    const names = [...(await metrics.page()).text.matchAll(/^# TYPE (signet_\w+) /gm)].map(([, name]) => name ?? '');
    const page = (await readFile(new URL('../../../docs/reference/metrics.md', import.meta.url), 'utf8')).split('## An agent')[1] ?? '';
    assert.ok(names.length > 0);
    for (const name of names) assert.ok(page.includes(`\`${name}\``), name);
  });
});
