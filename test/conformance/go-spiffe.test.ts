import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import type { X509State } from '../../src/workload-api/workload-source.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { goPrograms, talkingProgram } from '../support/foreign-clients.ts';
import type { GoPrograms, Line, TalkingProgram } from '../support/foreign-clients.ts';
import { startWorkloadApi, testTrustDomain } from '../support/workload-world.ts';

const td = 'spiffe://test.example';
const web = `${td}/ns/shop/sa/web`;
const identities = { '/ns/shop/sa/web': 'internal', '/ns/shop/sa/web-public': 'external' };

let programs: GoPrograms;
before(async () => {
  programs = await goPrograms();
});

const serialOf = ({ svids: [first] }: X509State): string => parseCertificate(first.chain[0]).serial.replace(/^0+/, '');
const run = (...args: string[]): TalkingProgram => talkingProgram(programs.client, args);

describe('go-spiffe', () => {
  it('follows identities, bundles and JWT keys through their changes, an outage, and the end of an identity', async () => {
    const partner = await testTrustDomain('partner.example');
    await using world = await startWorkloadApi({ federated: [partner], identities });
    await using client = run('watch', world.endpoint);
    const first = await client.line('identities', ({ event }) => event === 'x509');
    const [svid, second] = first['svids'] as readonly { id: string; hint: string; chain: number; serial: string }[];
    assert.deepEqual([svid?.id, svid?.hint, svid?.chain], [web, 'internal', 2]);
    assert.deepEqual([second?.id, second?.hint], [`${web}-public`, 'external']);
    assert.deepEqual(first['bundles'], { [td]: 1, [partner.name]: 1 });
    assert.deepEqual((await client.line('bundles', ({ event }) => event === 'x509 bundles'))['bundles'], { [td]: 1, [partner.name]: 1 });
    assert.deepEqual((await client.line('keys', ({ event }) => event === 'jwt bundles'))['keys'], {
      [td]: ['test.example-1'],
      [partner.name]: ['partner.example-1'],
    });

    const state = await world.rotate();
    const sees = (serial: string): Promise<unknown> =>
      client.line(`serial ${serial}`, ({ event, svids }) => event === 'x509' && (svids as { serial: string }[])[0]?.serial === serial);
    await sees(serialOf(state));
    // Federation ends: what a message leaves out is withdrawn.
    world.source.setX509({ ...state, bundles: new Map([[td, state.bundles.get(td) ?? []]]) });
    await client.line(
      'one bundle',
      ({ event, bundles }) => event === 'x509 bundles' && JSON.stringify(bundles) === JSON.stringify({ [td]: 1 }),
    );

    await world.stop();
    await client.line('the outage', ({ event, code }) => event === 'x509 error' && code === 'Unavailable');
    await world.restart();
    await sees(serialOf(await world.rotate()));

    world.source.setX509('denied');
    await client.line('the end', ({ event, code }) => event === 'x509 error' && code === 'PermissionDenied');
    assert.equal(await client.finish(), 0);
  });

  it('fetches JWT-SVIDs and validates them itself and by us', async () => {
    await using world = await startWorkloadApi({ identities });
    await using client = run('jwt', world.endpoint, 'db', web);
    const answer = await client.line('an answer', () => true);
    assert.equal(await client.finish(), 0);
    assert.deepEqual(answer['all'], [`${web} internal`, `${web}-public external`]);
    assert.deepEqual(answer['extra'], ['db', 'extra']);
    assert.deepEqual([answer['one'], answer['local'], answer['remote']], [web, web, web]);
    assert.deepEqual(answer['audience'], ['db']);
    assert.equal((answer['claims'] as { exp: number }).exp, answer['expires']);
    assert.deepEqual(answer['other audience'], [true, 'InvalidArgument']);
    assert.equal(answer["another's"], 'PermissionDenied');
  });

  it('is told that workload identity tokens are not implemented', async () => {
    await using world = await startWorkloadApi();
    await using client = run('wit', world.endpoint);
    assert.deepEqual(await client.line('an answer', () => true), { svid: 'Unimplemented', bundles: 'Unimplemented' });
    assert.equal(await client.finish(), 0);
  });

  it('speaks mutual TLS between two workloads through three rotations of both', async () => {
    const trustDomain = await testTrustDomain('test.example');
    await using server = await startWorkloadApi({ trustDomain });
    await using client = await startWorkloadApi({ trustDomain, identities: { '/ns/shop/sa/client': '' } });
    await using connections = run('connections', server.endpoint, client.endpoint);
    for (let seen = 1; seen <= 4; seen++) {
      const isSeen = (line: Line): boolean => line['server'] === seen && line['client'] === seen;
      await connections.line(`serial ${String(seen)} of both`, isSeen);
      await connections.line('some more connections', (line) => isSeen(line) && Number(line['count']) % 25 === 0);
      if (seen < 4) await Promise.all([server.rotate(), client.rotate()]);
    }
    const finished = connections.finish();
    const summary = await connections.line('the summary', (line) => 'connections' in line);
    assert.equal(await finished, 0);
    assert.deepEqual([summary['failures'], summary['last failure']], [0, '']);
    assert.deepEqual([summary['server'], summary['client']], [4, 4]);
    assert.equal(summary['refused'], true, 'a server with another SPIFFE ID than the expected');
    console.log(`go-spiffe: ${String(summary['connections'])} connections, 4 serials of each side, 0 failed`);
  });
});
