import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { eventually } from '../support/eventually.ts';
import type { RawStream, Received } from '../support/raw-sds-client.ts';
import { idOf, sdsWorld } from '../support/sds-world.ts';
import type { SdsWorld } from '../support/sds-world.ts';
import { publishedAnchors, publishedIdentity } from '../support/secret-material.ts';

describe('Delta (DeltaSecrets), to a raw client', () => {
  let world: SdsWorld;
  before(async () => {
    world = await sdsWorld();
    world.identity('web').publish(await publishedIdentity(idOf('web')));
  });
  after(() => world.close());

  let generation = 1;
  function newBundle(): string {
    generation++;
    const next = publishedAnchors(generation, 1 + (generation % 2));
    world.bundle.publish(next);
    return next.version;
  }
  const ack = (stream: RawStream, { nonce }: Received): void => {
    stream.send({ response_nonce: nonce });
  };
  const nack = (stream: RawStream, { nonce }: Received, more: object = {}): void => {
    stream.send({ response_nonce: nonce, error_detail: { code: 13, message: 'no' }, ...more });
  };
  const namesIn = (response: Received): readonly string[] => response.secrets.map(({ name }) => name).toSorted();

  async function subscribed(...names: readonly string[]): Promise<{ stream: RawStream; first: Received }> {
    const stream = world.open('delta');
    stream.send({ node: { id: 'envoy-1' }, resource_names_subscribe: names });
    const first = await stream.next();
    return { stream, first };
  }

  it('answers each name under its own name, version and type, and an ACK with silence', async () => {
    const { stream, first } = await subscribed('default', 'ROOTCA', 'ROOTCA');
    assert.deepEqual(namesIn(first), ['ROOTCA', 'default']);
    assert.deepEqual(Object.keys(first.versions).toSorted(), ['ROOTCA', 'default']);
    assert.deepEqual(first.removed, []);
    const types = Object.fromEntries(first.secrets.map(({ name, type }) => [name, type]));
    assert.deepEqual(types, { ROOTCA: 'validation_context', default: 'tls_certificate' });
    ack(stream, first);
    await stream.quiet();
    stream.cancel();
  });

  it('says at once that an unknown name, another identity, `*` and an absent secret are removed, each once', async () => {
    const names = ['nobody', 'nobody', idOf('other'), '*', '', 'new\nline', 'nul\0', 'x'.repeat(5000)];
    const { stream, first } = await subscribed(...names);
    assert.deepEqual(first.secrets, []);
    assert.deepEqual([...first.removed].toSorted(), [...new Set(names)].toSorted());
    const late = world.open('delta', 'late');
    late.send({ resource_names_subscribe: ['default'] });
    assert.deepEqual((await late.next()).removed, ['default']);
    world.identity('late').publish(await publishedIdentity(idOf('late')));
    assert.deepEqual(namesIn(await late.next()), ['default']);
    world.identity('late').publish('absent');
    const gone = await late.next();
    assert.deepEqual([gone.removed, gone.secrets], [['default'], []]);
    await late.quiet();
    stream.cancel();
    late.cancel();
  });

  it('says nothing of a secret that is being made until it is there', async () => {
    world.identity('slow').publish('pending');
    const stream = world.open('delta', 'slow');
    stream.send({ resource_names_subscribe: ['default'] });
    await stream.quiet();
    world.identity('slow').publish(await publishedIdentity(idOf('slow')));
    assert.deepEqual(namesIn(await stream.next()), ['default']);
    stream.cancel();
  });

  it('pushes only what changed', async () => {
    const { stream, first } = await subscribed('default', 'ROOTCA');
    ack(stream, first);
    const version = newBundle();
    const pushed = await stream.next();
    assert.deepEqual(pushed.versions, { ROOTCA: version });
    assert.notEqual(pushed.nonce, first.nonce);
    stream.cancel();
  });

  it('honours a subscription whatever its nonce, and answers a repeated one although nothing changed', async () => {
    const { stream, first } = await subscribed('ROOTCA');
    stream.send({ resource_names_subscribe: ['default'], response_nonce: 'never sent' });
    assert.deepEqual(namesIn(await stream.next()), ['default']);
    ack(stream, first);
    stream.send({ resource_names_subscribe: ['ROOTCA'] });
    const again = await stream.next();
    assert.deepEqual(again.versions, first.versions);
    stream.send({ resource_names_subscribe: ['nobody'] });
    await stream.next();
    stream.send({ resource_names_subscribe: ['nobody'] });
    assert.deepEqual((await stream.next()).removed, ['nobody']);
    stream.cancel();
  });

  it('unsubscribes quietly, and sends again when subscribed again', async () => {
    const { stream, first } = await subscribed('ROOTCA');
    ack(stream, first);
    stream.send({ resource_names_unsubscribe: ['ROOTCA', 'never subscribed'] });
    await stream.quiet();
    newBundle();
    await stream.quiet();
    stream.send({ resource_names_subscribe: ['ROOTCA'], resource_names_unsubscribe: ['ROOTCA'] });
    assert.deepEqual(namesIn(await stream.next()), ['ROOTCA']);
    stream.cancel();
  });

  it('takes an empty subscription as nothing', async () => {
    const stream = world.open('delta');
    stream.send({});
    await stream.quiet();
    newBundle();
    await stream.quiet();
    stream.cancel();
  });

  it('answers a reconnect with nothing new by an empty response', async () => {
    const { stream, first } = await subscribed('ROOTCA');
    stream.cancel();
    const back = world.open('delta');
    back.send({ resource_names_subscribe: ['ROOTCA'], initial_resource_versions: first.versions });
    const empty = await back.next();
    assert.deepEqual([empty.secrets, empty.removed], [[], []]);
    assert.equal(empty.version, first.version);
    ack(back, empty);
    await back.quiet();
    const version = newBundle();
    assert.deepEqual((await back.next()).versions, { ROOTCA: version });
    back.cancel();
  });

  it('sends what is outdated at a reconnect, says what no longer exists, and subscribes to nothing by what is held', async () => {
    const { stream, first } = await subscribed('ROOTCA', 'default');
    stream.cancel();
    const bundle = newBundle();
    const back = world.open('delta');
    back.send({
      resource_names_subscribe: ['ROOTCA', 'default'],
      initial_resource_versions: { ...first.versions, gone: '7', __proto__x: '8' },
    });
    const answer = await back.next();
    assert.deepEqual(answer.versions, { ROOTCA: bundle });
    assert.deepEqual([...answer.removed].toSorted(), ['__proto__x', 'gone']);
    back.cancel();
    const idle = world.open('delta');
    idle.send({ initial_resource_versions: { ROOTCA: 'an old one' } });
    const empty = await idle.next();
    assert.deepEqual([empty.secrets, empty.removed], [[], []]);
    newBundle();
    await idle.quiet();
    idle.cancel();
  });

  it('never answers a NACK with the same bytes, whatever else the request says, and goes on for other names', async () => {
    const { stream, first } = await subscribed('ROOTCA', 'default');
    ack(stream, first);
    newBundle();
    const refused = await stream.next();
    nack(stream, refused, { resource_names_subscribe: ['ROOTCA'] });
    await stream.quiet();
    const held = world.bundle.current();
    assert.ok(typeof held === 'object');
    world.bundle.publish({ ...held });
    await stream.quiet();
    world.identity('web').publish(await publishedIdentity(idOf('web')));
    assert.deepEqual(namesIn(await stream.next()), ['default']);
    newBundle();
    assert.deepEqual(namesIn(await stream.next()), ['ROOTCA']);
    stream.cancel();
  });

  it('tells the ledger what was taken, refused and still held, by the nonce of each', async () => {
    const { stream, first } = await subscribed('ROOTCA');
    newBundle();
    const second = await stream.next();
    nack(stream, second);
    ack(stream, first);
    const state = async (want: string): Promise<void> => {
      await eventually(`the bundle is ${want}`, () => {
        const [open] = world.ledger.streams().filter(({ api, caller }) => api === 'delta' && caller.subject === 'web');
        return open?.secrets.some(({ key, state }) => key === 'bundle' && state === want) === true || undefined;
      });
    };
    await state('acknowledged');
    stream.cancel();
    await eventually('it is closed', () => world.ledger.streamCount === 0 || undefined);
    world.acknowledged.length = 0;
    newBundle();
    const back = world.open('delta');
    const current = world.bundle.current();
    assert.ok(typeof current === 'object' && current.type === 'validation');
    back.send({ resource_names_subscribe: ['ROOTCA'], initial_resource_versions: { ROOTCA: current.version } });
    await back.next();
    await eventually(
      'the claim is evidence',
      () => world.acknowledged.some(({ generation }) => generation === current.generation) || undefined,
    );
    back.cancel();
  });
});
