import assert from 'node:assert/strict';
import { it } from 'node:test';
import { parseCertificate } from '../../src/x509/certificate.ts';
import type { X509State } from '../../src/workload-api/workload-source.ts';
import { pythonClientCommand, talkingProgram } from '../support/foreign-clients.ts';
import { startWorkloadApi, testTrustDomain } from '../support/workload-world.ts';

const td = 'spiffe://test.example';
const web = `${td}/ns/shop/sa/web`;
const serialOf = ({ svids: [first] }: X509State): string => parseCertificate(first.chain[0]).serial.replace(/^0+/, '');

it('the PyPI package `spiffe` fetches and validates everything, and its source follows rotations', async () => {
  const [python, script] = await pythonClientCommand();
  const partner = await testTrustDomain('partner.example');
  await using world = await startWorkloadApi({ federated: [partner], identities: { '/ns/shop/sa/web': '', '/ns/shop/sa/web-public': '' } });
  await using client = talkingProgram(python, [script, world.endpoint, 'db', web]);
  const state = world.source.x509();
  assert.ok(typeof state === 'object');

  const fetched = await client.line('a context', ({ event }) => event === 'fetched');
  const svids = fetched['svids'] as readonly { id: string; serial: string; chain: number }[];
  assert.deepEqual(
    svids.map(({ id }) => id),
    [web, `${web}-public`],
  );
  assert.deepEqual([svids[0]?.serial, svids[0]?.chain], [serialOf(state), 2]);
  assert.deepEqual(fetched['bundles'], { [td]: 1, [partner.name]: 1 });
  assert.deepEqual(await client.line('bundles', ({ event }) => event === 'bundles'), { event: 'bundles', x509: 2, jwt: 2 });

  const jwt = await client.line('tokens', ({ event }) => event === 'jwt');
  assert.deepEqual([jwt['ids'], jwt['valid']], [[web, `${web}-public`], web]);
  assert.match(String(jwt['refused']), /ValidateJwtSvidError/);
  const source = await client.line('a JWT source', ({ event }) => event === 'jwt source');
  assert.deepEqual([source['id'], source['bundles']], [web, 2]);

  assert.equal((await client.line('a source', ({ event }) => event === 'source'))['serial'], serialOf(state));
  for (let rotation = 0; rotation < 3; rotation++) {
    const next = await world.rotate();
    client.say('rotated');
    assert.equal((await client.line('the new serial', ({ event }) => event === 'source'))['serial'], serialOf(next));
  }
  assert.equal(await client.finish(), 0);
});
