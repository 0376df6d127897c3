import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { openRequestBoard } from '../../../../src/ca/kubernetes/request-board.ts';
import { failureFrom } from '../../../../src/kubernetes/answer.ts';
import type { ApiCall, ApiLines, KubernetesClient } from '../../../../src/kubernetes/client.ts';
import { eventually } from '../../../support/eventually.ts';
import { failureOf } from '../../../support/failure.ts';
import { silentLog } from '../../../support/silent-log.ts';
import { simulatedClock } from '../../../support/simulated-clock.ts';

const never = new AbortController().signal;

/** A fake API server that allows nothing but a list until it is told to, and then answers each object that is made at once. */
function fakeApi() {
  const made = Promise.withResolvers<string>();
  const forbidden = { ok: false, failure: failureFrom('GET https://fake/things', 403, undefined, '') } as const;
  async function* events(signal: AbortSignal): ApiLines {
    const ended = Promise.withResolvers<never>();
    signal.addEventListener('abort', () => {
      ended.reject(signal.reason as Error);
    });
    yield Buffer.from(await Promise.race([made.promise, ended.promise]));
    await ended.promise;
  }
  const api = {
    allowed: false,
    refusedWatches: 0,
    client: {
      server: 'https://fake',
      ask<T>({ method, body, answer }: ApiCall<T>) {
        const good = (value: object) => Promise.resolve({ ok: true, value: answer.parse(value) } as const);
        if (method === 'GET') return good({ metadata: { resourceVersion: '1' }, items: [] });
        if (method === 'DELETE') return good({});
        if (!api.allowed) return Promise.resolve(forbidden);
        const { name } = (body as { readonly metadata: { readonly name: string } }).metadata;
        const object = { metadata: { name, resourceVersion: '2' } };
        made.resolve(JSON.stringify({ type: 'ADDED', object }));
        return good(object);
      },
      open(_, signal) {
        if (api.allowed) return Promise.resolve({ ok: true, value: events(signal) });
        api.refusedWatches++;
        return Promise.resolve(forbidden);
      },
      close: () => Promise.resolve(),
    } satisfies KubernetesClient,
  };
  return api;
}

describe('requests for certificates, by a fake API server', () => {
  it('that forbids to follow them, as one does that has just come up, are made again once it allows it', async () => {
    const api = fakeApi();
    const board = openRequestBoard(
      { backend: 'cluster', apiVersion: 'v1', kind: 'Thing', collection: '/things', judge: () => ({ kind: 'issued', pem: 'PEM' }) },
      // The clock stands still: it is not by waiting that the fault is forgotten.
      { client: api.client, clock: simulatedClock(), random: () => 0.5, log: silentLog },
    );
    await eventually('it is noticed', () => api.refusedWatches > 0 || undefined);
    assert.equal((await failureOf(board.ask({}, never))).code, 'AUTHORITY_REFUSED');
    api.allowed = true;
    assert.equal(await eventually('an answer', () => board.ask({}, never)), 'PEM');
    await board.close();
  });
});
