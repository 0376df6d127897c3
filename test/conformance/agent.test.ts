/** A real server, a real agent, and a client that nobody here wrote. */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { agentWorld } from '../support/agent-world.ts';
import { eventually } from '../support/eventually.ts';
import { goPrograms, talkingProgram } from '../support/foreign-clients.ts';
import type { GoPrograms } from '../support/foreign-clients.ts';
import { idOf, wholeServer } from '../support/whole-server.ts';
import type { Pod } from '../support/whole-server.ts';

const web: Pod = { serviceAccount: 'web' };

describe("go-spiffe on an agent's socket", () => {
  let programs: GoPrograms;
  before(async () => {
    programs = await goPrograms();
  });

  it('follows the rotation of its identity, and knows the keys of JWT-SVIDs', async () => {
    await using whole = await wholeServer({ policy: { tiers: { standard: '8s' } } });
    await using world = await agentWorld(whole, { pods: [web] });
    await eventually('the first certificate', () => world.agent.materials.get('web')?.current());
    await using client = talkingProgram(programs.client, ['watch', `unix://${world.socket('web')}`]);
    const serials = new Set<string>();
    while (serials.size < 3) {
      const line = await client.line('an identity', ({ event }) => event === 'x509');
      const [svid] = line['svids'] as readonly { id: string; serial: string }[];
      assert.equal(svid?.id, idOf(web));
      serials.add(svid.serial);
    }
    const keys = await client.line('keys', ({ event }) => event === 'jwt bundles');
    assert.deepEqual(Object.keys(keys['keys'] as object), ['spiffe://example.org']);
    assert.equal(await client.finish(), 0);
  });
});
