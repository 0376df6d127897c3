import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { eventually } from '../support/eventually.ts';
import type { Received, RawStream } from '../support/raw-sds-client.ts';
import { idOf, sdsWorld } from '../support/sds-world.ts';
import type { SdsWorld } from '../support/sds-world.ts';
import { publishedAnchors, publishedIdentity } from '../support/secret-material.ts';

describe('SotW (StreamSecrets), to a raw client', () => {
  let world: SdsWorld;
  before(async () => {
    world = await sdsWorld();
    world.identity('web').publish(await publishedIdentity(idOf('web')));
  });
  after(() => world.close());

  let generation = 1;
  /** New trust for everyone: the number of roots alternates, so the bytes do too. */
  function newBundle(): string {
    generation++;
    const next = publishedAnchors(generation, 1 + (generation % 2));
    world.bundle.publish(next);
    return next.version;
  }
  const ack = (stream: RawStream, names: readonly string[], { version, nonce }: Received): void => {
    stream.send({ resource_names: names, version_info: version, response_nonce: nonce });
  };
  const nack = (stream: RawStream, names: readonly string[], { nonce }: Received, message = 'no'): void => {
    stream.send({ resource_names: names, response_nonce: nonce, error_detail: { code: 13, message } });
  };
  const namesIn = (response: Received): readonly string[] => response.secrets.map(({ name }) => name).toSorted();

  it('answers each name with its own type, and an ACK with silence', async () => {
    const stream = world.open('sotw');
    stream.send({ node: { id: 'envoy-1' }, resource_names: ['default', 'ROOTCA', 'spiffe://td.test', idOf('web')] });
    const response = await stream.next();
    assert.deepEqual(namesIn(response), ['ROOTCA', 'default', 'spiffe://td.test', idOf('web')].toSorted());
    for (const secret of response.secrets) {
      const isTrust = secret.name === 'ROOTCA' || secret.name === 'spiffe://td.test';
      assert.equal(secret.type, isTrust ? 'validation_context' : 'tls_certificate');
    }
    const ca = response.secrets.find(({ name }) => name === 'ROOTCA')?.validation_context?.trusted_ca.inline_bytes;
    assert.match(String(ca), /^-----BEGIN CERTIFICATE-----/);
    const own = response.secrets.find(({ name }) => name === 'default')?.tls_certificate;
    assert.match(String(own?.certificate_chain.inline_bytes), /^-----BEGIN CERTIFICATE-----/);
    assert.match(String(own?.private_key.inline_bytes), /^-----BEGIN PRIVATE KEY-----/);
    ack(stream, ['default', 'ROOTCA', 'spiffe://td.test', idOf('web')], response);
    await stream.quiet();
    stream.cancel();
  });

  it('answers the first request always: with a version, with no names, with unknown names, with `*`', async () => {
    for (const names of [['ROOTCA'], [], ['nobody'], ['*'], [idOf('other')]]) {
      const stream = world.open('sotw');
      stream.send({ resource_names: names, version_info: world.bundle.current() === 'absent' ? '' : `${String(generation)}.x` });
      const response = await stream.next();
      assert.deepEqual(
        namesIn(response),
        names.filter((name) => name === 'ROOTCA'),
      );
      assert.notEqual(response.version, '');
      ack(stream, names, response);
      await stream.quiet(60);
      stream.cancel();
    }
  });

  it('sends the same version although the client says that it has it', async () => {
    const first = world.open('sotw');
    first.send({ resource_names: ['ROOTCA'] });
    const { version, bytes } = await first.next();
    const again = world.open('sotw');
    again.send({ resource_names: ['ROOTCA'], version_info: version });
    const response = await again.next();
    assert.equal(response.version, version);
    assert.deepEqual(response.bytes, bytes, 'equal versions, equal bytes; both are the first of their stream');
    first.cancel();
    again.cancel();
  });

  it('delivers duplicates once and keeps an unknown name from blocking a known one', async () => {
    const stream = world.open('sotw');
    stream.send({ resource_names: ['ROOTCA', 'nobody', 'ROOTCA', 'ROOTCA'] });
    assert.deepEqual(namesIn(await stream.next()), ['ROOTCA']);
    stream.cancel();
  });

  it('pushes new bytes with nonces that never repeat, and nothing when only the version object changed', async () => {
    const stream = world.open('sotw');
    stream.send({ resource_names: ['ROOTCA'] });
    const nonces = new Set<string>();
    let response = await stream.next();
    for (let i = 0; i < 5; i++) {
      nonces.add(response.nonce);
      ack(stream, ['ROOTCA'], response);
      const version = newBundle();
      response = await stream.next();
      assert.equal(response.version, version);
    }
    nonces.add(response.nonce);
    assert.equal(nonces.size, 6);
    ack(stream, ['ROOTCA'], response);
    const current = world.bundle.current();
    assert.ok(typeof current === 'object');
    world.bundle.publish({ ...current });
    await stream.quiet();
    stream.cancel();
  });

  it('ignores a request with a stale nonce whole', async () => {
    const stream = world.open('sotw');
    stream.send({ resource_names: ['ROOTCA'] });
    const old = await stream.next();
    newBundle();
    const last = await stream.next();
    stream.send({ resource_names: ['ROOTCA', 'default'], version_info: old.version, response_nonce: old.nonce });
    stream.send({ resource_names: [], version_info: old.version, response_nonce: 'never-sent' });
    await stream.quiet();
    ack(stream, ['ROOTCA'], last);
    newBundle();
    assert.deepEqual(namesIn(await stream.next()), ['ROOTCA'], 'the subscription is as it was');
    stream.cancel();
  });

  it('answers a name added with the nonce of an unacknowledged response; a dropped one is quiet, and sent when re-added', async () => {
    const stream = world.open('sotw');
    stream.send({ resource_names: ['ROOTCA'] });
    const first = await stream.next();
    stream.send({ resource_names: ['ROOTCA', 'default'], version_info: '', response_nonce: first.nonce });
    const second = await stream.next();
    assert.deepEqual(namesIn(second), ['default']);
    ack(stream, ['default'], second);
    await stream.quiet(50);
    newBundle();
    await stream.quiet();
    ack(stream, ['default', 'ROOTCA'], second);
    assert.deepEqual(namesIn(await stream.next()), ['ROOTCA']);
    stream.cancel();
  });

  it('takes the empty list as nothing, not as everything', async () => {
    const stream = world.open('sotw');
    stream.send({ resource_names: ['ROOTCA'] });
    ack(stream, [], await stream.next());
    await stream.quiet(50);
    newBundle();
    await stream.quiet();
    stream.cancel();
  });

  it('never answers a NACK with the same bytes, goes on for other names, and sends new bytes as soon as they exist', async () => {
    const stream = world.open('sotw');
    const names = ['ROOTCA', 'default'];
    stream.send({ resource_names: names });
    const first = await stream.next();
    ack(stream, names, first);
    const bad = newBundle();
    const refused = await stream.next();
    assert.equal(refused.version, bad);
    nack(stream, names, refused);
    await stream.quiet(50);
    const held = world.bundle.current();
    assert.ok(typeof held === 'object');
    world.bundle.publish({ ...held });
    await stream.quiet();
    world.identity('web').publish(await publishedIdentity(idOf('web')));
    const other = await stream.next();
    assert.deepEqual(namesIn(other), ['default']);
    ack(stream, names, other);
    newBundle();
    assert.deepEqual(namesIn(await stream.next()), ['ROOTCA']);
    stream.cancel();
  });

  it('heals by the last good bytes under their old version', async () => {
    const stream = world.open('sotw');
    stream.send({ resource_names: ['ROOTCA'] });
    const good = await stream.next();
    const current = world.bundle.current();
    ack(stream, ['ROOTCA'], good);
    newBundle();
    const refused = await stream.next();
    const bad = world.bundle.current();
    nack(stream, ['ROOTCA'], refused);
    await stream.quiet(50);
    world.bundle.publish(current);
    const healed = await stream.next();
    assert.equal(healed.version, good.version);
    ack(stream, ['ROOTCA'], healed);
    await stream.quiet(50);
    world.bundle.publish(bad);
    await stream.quiet();
    newBundle();
    await stream.next();
    stream.cancel();
  });

  it('says nothing of what is being made until it is there, and does not hold back the rest', async () => {
    world.identity('slow').publish('pending');
    const alone = world.open('sotw', 'slow');
    alone.send({ resource_names: ['default'] });
    const both = world.open('sotw', 'slow');
    both.send({ resource_names: ['default', 'ROOTCA'] });
    assert.deepEqual(namesIn(await both.next()), ['ROOTCA']);
    await alone.quiet();
    world.identity('slow').publish(await publishedIdentity(idOf('slow')));
    const [a, b] = await Promise.all([alone.next(), both.next()]);
    assert.deepEqual(a.secrets, b.secrets, 'two streams of one instance get the same certificate');
    alone.cancel();
    both.cancel();
  });

  it('answers without what is absent, and pushes it once it appears', async () => {
    const stream = world.open('sotw', 'late');
    stream.send({ resource_names: ['default'] });
    assert.deepEqual(namesIn(await stream.next()), []);
    world.identity('late').publish(await publishedIdentity(idOf('late')));
    assert.deepEqual(namesIn(await stream.next()), ['default']);
    world.identity('late').publish('absent');
    await stream.quiet();
    stream.cancel();
  });

  it('makes another identity look exactly like an unknown name', async () => {
    const answers: Buffer[] = [];
    for (const name of [idOf('late'), idOf('nobody'), 'no such thing']) {
      const stream = world.open('sotw');
      stream.send({ resource_names: [name] });
      answers.push((await stream.next()).bytes);
      stream.cancel();
    }
    assert.deepEqual(answers[0], answers[1]);
    assert.deepEqual(answers[0], answers[2]);
  });

  it('subscribes to a feed once for all streams, and leaves it with the last of them', async () => {
    const streams = [world.open('sotw'), world.open('sotw'), world.open('sotw')];
    for (const stream of streams) stream.send({ resource_names: ['ROOTCA', 'spiffe://td.test'] });
    for (const stream of streams) await stream.next();
    assert.equal(world.bundle.subscribers, 1);
    for (const stream of streams) stream.cancel();
    await eventually('nobody watches', () => world.bundle.subscribers === 0 || undefined);
  });
});
