import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { checkPolicySettings, createPolicy } from '../../../src/policy/rules.ts';
import { backendOf } from '../../../src/policy/policy.ts';
import type { PolicySettings } from '../../../src/policy/rules.ts';
import { parseSpiffeId, parseTrustDomain } from '../../../src/spiffe/id.ts';
import type { SpiffeId } from '../../../src/spiffe/id.ts';

const hour = 3_600_000;
const trustDomain = parseTrustDomain('example.org');
const settings: PolicySettings = {
  tiers: { critical: 12 * hour, standard: 24 * hour, dev: 168 * hour },
  rules: [
    { match: '/ns/payments/sa/*', tier: 'critical' },
    { match: '/ns/payments/**', tier: 'dev', backend: 'vault' },
    { match: '/ns/*/sa/batch', backend: 'vault' },
    { match: '/ns/picky/**', certSigners: ['vault', 'acme'] },
  ],
  keyModes: [
    { match: '/ns/demo/**', mode: 'server' },
    { match: '/ns/payments/**', mode: 'csr', keyDirectories: ['/etc/payments'], keyMaxAgeMs: hour },
  ],
  defaults: { tier: 'standard', backend: 'builtin', keyMode: 'csr', keyDirectories: ['/var/run/signet'], keyMaxAgeMs: 720 * hour },
};
const web = parseSpiffeId('spiffe://example.org/ns/shop/sa/web');

function grantOf(path: string, denied: (id: SpiffeId) => boolean = () => false) {
  return createPolicy(settings, { trustDomain, denied }).grant({
    spiffeId: parseSpiffeId(`spiffe://example.org${path}`),
    issuer: 'kubernetes',
  });
}

describe('policy', () => {
  it('gives the defaults to whom no rule names', () => {
    assert.deepEqual(grantOf('/ns/shop/sa/web'), {
      tier: 'standard',
      maxTtlMs: 24 * hour,
      authority: 'builtin',
      certSigners: [],
      keyMode: 'csr',
      keyDirectories: ['/var/run/signet'],
      keyMaxAgeMs: 720 * hour,
    });
  });

  it('takes the first rule that matches, whole: what it leaves out is the default, not the next rule', () => {
    const grant = grantOf('/ns/payments/sa/api');
    assert.equal(grant.tier, 'critical');
    assert.equal(grant.authority, 'builtin');
    assert.deepEqual(grant.keyDirectories, ['/etc/payments']);
    assert.equal(grant.keyMaxAgeMs, hour);
    assert.equal(grantOf('/ns/payments/vm/1').tier, 'dev');
    assert.deepEqual([grantOf('/ns/x/sa/batch').authority, grantOf('/ns/x/sa/batch').tier], ['vault', 'standard']);
  });

  it('lets a CA backend be picked by name only where a rule says so', () => {
    const picky = grantOf('/ns/picky/sa/web');
    assert.deepEqual(
      [undefined, 'builtin', 'acme'].map((asked) => backendOf(picky, asked)),
      ['builtin', 'builtin', 'acme'],
    );
    assert.throws(() => backendOf(picky, 'other'), { code: 'PERMISSION_DENIED' });
    assert.throws(() => backendOf(grantOf('/ns/shop/sa/web'), 'vault'), { code: 'PERMISSION_DENIED' });
    assert.throws(() => backendOf(grantOf('/ns/payments/vm/1'), 'builtin'), { code: 'PERMISSION_DENIED' });
  });

  it('lets the server make keys only where a rule says so', () => {
    assert.equal(grantOf('/ns/demo/sa/web').keyMode, 'server');
    assert.equal(grantOf('/ns/demonstration/sa/web').keyMode, 'csr');
  });

  it('asks about denials at every use, since the stop button must hold at once', () => {
    const denied = new Set<SpiffeId>();
    const policy = createPolicy(settings, { trustDomain, denied: (id) => denied.has(id) });
    const subject = { spiffeId: web, issuer: 'kubernetes' };
    assert.equal(policy.grant(subject).tier, 'standard');
    denied.add(web);
    assert.throws(() => policy.grant(subject), { code: 'IDENTITY_DENIED' });
    denied.delete(web);
    assert.equal(policy.grant(subject).tier, 'standard');
  });

  it("grants nothing in another trust domain or under the control plane's own names", () => {
    const policy = createPolicy(settings, { trustDomain, denied: () => false });
    for (const id of ['spiffe://example.com/ns/shop/sa/web', 'spiffe://example.org/signet/server', 'spiffe://example.org/signet']) {
      assert.throws(() => policy.grant({ spiffeId: parseSpiffeId(id), issuer: 'kubernetes' }), { code: 'PERMISSION_DENIED' }, id);
    }
  });

  it('lets nobody have a CA of his own but whom a rule names, and him no longer once he is denied', () => {
    const denied = new Set<SpiffeId>();
    const below = { spiffeId: parseSpiffeId('spiffe://example.org/ns/signet/sa/signet'), issuer: 'kubernetes' };
    const plain = createPolicy(settings, { trustDomain, denied: () => false });
    assert.throws(() => plain.downstream(below), { code: 'PERMISSION_DENIED' });
    const downstream = [{ match: '/ns/signet/sa/signet', maxTtlMs: 24 * hour }];
    const policy = createPolicy({ ...settings, downstream }, { trustDomain, denied: (id) => denied.has(id) });
    assert.deepEqual(policy.downstream(below), { maxTtlMs: 24 * hour, authority: settings.defaults.backend });
    assert.throws(() => policy.downstream({ spiffeId: web, issuer: 'kubernetes' }), { code: 'PERMISSION_DENIED' });
    const foreign = { spiffeId: parseSpiffeId('spiffe://example.com/ns/signet/sa/signet'), issuer: 'kubernetes' };
    assert.throws(() => policy.downstream(foreign), { code: 'PERMISSION_DENIED' });
    denied.add(below.spiffeId);
    assert.throws(() => policy.downstream(below), { code: 'IDENTITY_DENIED' });
  });

  it('refuses settings that name what is not there, each with its place', () => {
    const bad: PolicySettings = {
      tiers: { standard: 24 * hour, endless: 91 * 24 * hour, none: 0 },
      rules: [
        { match: 'ns/shop', tier: 'gold' },
        { match: '/x', tier: 'constructor' },
      ],
      keyModes: [{ match: '/x/', mode: 'csr', keyDirectories: ['relative'], keyMaxAgeMs: 0 }],
      defaults: { ...settings.defaults, tier: 'silver', keyDirectories: ['/var/../etc'] },
    };
    assert.deepEqual(
      checkPolicySettings(bad)
        .map(({ field }) => field)
        .sort(),
      [
        'defaults.keyDirectories',
        'defaults.tier',
        'keyModes[0].keyDirectories',
        'keyModes[0].keyMaxAge',
        'keyModes[0].match',
        'rules[0].match',
        'rules[0].tier',
        'rules[1].tier',
        'tiers.endless',
        'tiers.none',
      ],
    );
    assert.throws(() => createPolicy(bad, { trustDomain, denied: () => false }), { code: 'CONFIG_INVALID' });
    assert.deepEqual(checkPolicySettings(settings), []);
  });
});
