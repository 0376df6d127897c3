import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { createHealth } from '../../src/api/health.ts';
import type { Health } from '../../src/api/health.ts';
import { apiWorld } from '../support/api-world.ts';
import type { ApiWorld } from '../support/api-world.ts';
import { grpcCaller } from '../support/grpc-caller.ts';
import type { GrpcCaller } from '../support/grpc-caller.ts';
import { silentLog } from '../support/silent-log.ts';

const name = 'signet.v1.CertificateService';
let world: ApiWorld;
let health: Health;
let client: GrpcCaller;

before(async () => {
  world = await apiWorld();
  health = createHealth({ log: silentLog, timeoutMs: 1000 }, [name]);
  const address = await world.serve(health.register);
  client = grpcCaller({ address, file: 'grpc/health/v1/health.proto', service: 'grpc.health.v1.Health' });
});
after(async () => {
  client.close();
  await world[Symbol.asyncDispose]();
});

describe('grpc.health.v1', () => {
  it('needs no credential, and says NOT_SERVING until the server serves', async () => {
    assert.deepEqual(await client.call('Check', {}), { status: 'NOT_SERVING' });
    health.setServing(true);
    assert.deepEqual(await client.call('Check', {}), { status: 'SERVING' });
    assert.deepEqual(await client.call('Check', { service: name }), { status: 'SERVING' });
  });

  it('knows no other service', async () => {
    const refusal = await client.refused('Check', { service: 'other' });
    assert.deepEqual([refusal.code, refusal.reason], [5, 'NOT_FOUND']);
  });

  it('watched, tells the state at once and each change of it, and ends with OK when the server drains', async () => {
    health.setServing(true);
    const watch = client.watch('Watch', { service: name });
    const unknown = client.watch('Watch', { service: 'other' });
    assert.deepEqual(await once(watch, 'data'), [{ status: 'SERVING' }]);
    assert.deepEqual(await once(unknown, 'data'), [{ status: 'SERVICE_UNKNOWN' }]);
    const next = once(watch, 'data');
    unknown.on('data', () => assert.fail('what is unknown does not change'));
    health.setServing(false);
    assert.deepEqual(await next, [{ status: 'NOT_SERVING' }]);
    const ended = Promise.all([once(watch, 'status'), once(unknown, 'status')]);
    health.close();
    assert.deepEqual(
      (await ended).map(([status]) => (status as { code: number }).code),
      [0, 0],
    );
  });

  it('bears no flood of watches', async () => {
    const watches = Array.from({ length: 256 }, () => client.watch('Watch', {}));
    await Promise.all(watches.map((watch) => once(watch, 'data')));
    const extra = client.watch('Watch', {});
    const [error] = (await once(extra, 'error')) as [{ code: number }];
    assert.equal(error.code, 8);
    watches[0]?.on('error', () => undefined);
    for (const watch of watches.slice(1)) watch.on('error', () => undefined).cancel();
    watches[0]?.cancel();
    // Their places come free.
    const { eventually } = await import('../support/eventually.ts');
    await eventually('a place for one more watch', async () => {
      const again = client.watch('Watch', {});
      const failed = once(again, 'error').then(() => undefined);
      const answered = once(again, 'data').then(
        () => true as const,
        () => undefined,
      );
      const answer = await Promise.race([answered, failed]);
      again.cancel();
      return answer;
    });
  });
});
