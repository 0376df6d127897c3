import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { z } from 'zod';
import { failureFrom } from '../../../src/kubernetes/answer.ts';
import type { ApiAnswer, ApiFailure } from '../../../src/kubernetes/answer.ts';
import type { ApiCall, ApiLines, KubernetesClient } from '../../../src/kubernetes/client.ts';
import { listAndWatch } from '../../../src/kubernetes/watch.ts';
import { failureOf } from '../../support/failure.ts';

const object = z.object({ metadata: z.object({ name: z.string(), resourceVersion: z.string() }) });
const named = (name: string, resourceVersion: string) => ({ metadata: { name, resourceVersion } });
const event = (type: string, of: object): string => JSON.stringify({ type, object: of });
const list = (resourceVersion: string, items: readonly object[], more?: string) => ({
  metadata: { resourceVersion, ...(more === undefined ? {} : { continue: more }) },
  items,
});

type Step = { readonly list: object } | { readonly failed: number } | { readonly watch: readonly string[]; readonly breaks?: boolean };

/** A fake API server: it answers what the script says, in this order, and then no more. */
function fakeApi(script: readonly Step[]): { readonly client: KubernetesClient; readonly asked: string[] } {
  const asked: string[] = [];
  let at = 0;
  const next = (query: Readonly<Record<string, string>> | undefined): Step => {
    asked.push(query?.['watch'] === undefined ? `list ${query?.['continue'] ?? ''}`.trimEnd() : `watch ${query['resourceVersion'] ?? ''}`);
    const step = script[at++];
    if (!step) throw new Error('the script has ended');
    return step;
  };
  async function* lines(texts: readonly string[], breaks: boolean): ApiLines {
    for (const text of texts) yield await Promise.resolve(Buffer.from(text));
    if (breaks) throw new Error('ECONNRESET');
  }
  const client: KubernetesClient = {
    server: 'https://fake',
    ask<T>(call: ApiCall<T>): Promise<ApiAnswer<T>> {
      const step = next(call.query);
      if ('list' in step) return Promise.resolve({ ok: true, value: call.answer.parse(step.list) });
      return Promise.resolve({ ok: false, failure: failureFrom('GET', 'failed' in step ? step.failed : 500, '0', '') });
    },
    open(call) {
      const step = next(call.query);
      if ('watch' in step) return Promise.resolve({ ok: true, value: lines(step.watch, step.breaks ?? false) });
      return Promise.resolve({ ok: false, failure: failureFrom('GET', 'failed' in step ? step.failed : 500, '0', '') });
    },
    close: () => Promise.resolve(),
  };
  return { client, asked };
}

/** What is told until the script's end. */
async function follow(script: readonly Step[]) {
  const { client, asked } = fakeApi(script);
  const failures: ApiFailure[] = [];
  const told: string[] = [];
  let watches = 0;
  const options = {
    random: () => 0.5,
    retry: { baseMs: 1, maxMs: 2 },
    onFailure: (failed: ApiFailure) => failures.push(failed),
    onWatching: () => watches++,
  };
  try {
    for await (const step of listAndWatch(client, { path: '/things', object }, options, new AbortController().signal)) {
      told.push(
        step.kind === 'listed'
          ? `listed ${step.objects.map((of) => of.metadata.name).join()}`
          : `${step.kind} ${step.object.metadata.name}`,
      );
    }
  } catch (error) {
    assert.match(String(error), /the script has ended/);
  }
  return { told, asked, watches, failures: failures.map(({ kind }) => kind) };
}

describe('list and watch, against a fake API server', () => {
  it('goes on after the newest version that it was told, bookmarks included', async () => {
    const { told, asked } = await follow([
      { list: list('10', [named('a', '5')]) },
      { watch: [event('ADDED', named('b', '11')), event('BOOKMARK', named('', '20'))] },
      { watch: [event('DELETED', named('a', '21'))] },
    ]);
    assert.deepEqual(told, ['listed a', 'set b', 'deleted a']);
    assert.deepEqual(asked, ['list', 'watch 10', 'watch 20', 'watch 21']);
  });

  it('reads a list of several pages', async () => {
    const { told, asked } = await follow([{ list: list('10', [named('a', '5')], 'more') }, { list: list('10', [named('b', '6')]) }]);
    assert.deepEqual(told, ['listed a,b']);
    assert.deepEqual(asked, ['list', 'list more', 'watch 10']);
  });

  it('lists anew when its version is gone, said by status or in an event', async () => {
    const gone = event('ERROR', { kind: 'Status', code: 410, message: 'too old resource version' });
    const { told, failures } = await follow([
      { list: list('10', [named('a', '5')]) },
      { failed: 410 },
      { list: list('30', [named('b', '25')]) },
      { watch: [gone] },
      { list: list('40', []) },
    ]);
    assert.deepEqual(told, ['listed a', 'listed b', 'listed ']);
    assert.deepEqual(failures, ['gone', 'gone']);
  });

  it('keeps its thread through failures and broken connections', async () => {
    const { told, asked, failures } = await follow([
      { failed: 503 },
      { list: list('10', []) },
      { watch: [event('ADDED', named('a', '11'))], breaks: true },
      { failed: 429 },
      { watch: [event('ADDED', named('b', '12'))] },
    ]);
    assert.deepEqual(told, ['listed ', 'set a', 'set b']);
    assert.deepEqual(asked, ['list', 'list', 'watch 10', 'watch 11', 'watch 11', 'watch 12']);
    assert.deepEqual(failures, ['away', 'away', 'throttled']);
  });

  it('says that a watch has begun, when nothing is heard of it yet', async () => {
    const { told, watches, failures } = await follow([{ list: list('10', []) }, { failed: 403 }, { watch: [] }]);
    assert.deepEqual(told, ['listed ']);
    assert.deepEqual(failures, ['forbidden']);
    assert.equal(watches, 1);
  });

  it('lists anew when it is told what it does not understand', async () => {
    const { told, failures } = await follow([
      { list: list('10', []) },
      { watch: ['{"type":"ADDED","object":{}}'] },
      { list: list('11', [named('a', '11')]) },
    ]);
    assert.deepEqual(told, ['listed ', 'listed a']);
    assert.deepEqual(failures, ['malformed']);
  });

  it('ends with its signal, also while it waits', async () => {
    const { client } = fakeApi([{ failed: 500 }]);
    const stop = new AbortController();
    const options = {
      random: () => 0.5,
      onFailure: () =>
        void setImmediate(() => {
          stop.abort();
        }),
    };
    assert.equal((await failureOf(listAndWatch(client, { path: '/things', object }, options, stop.signal).next())).code, 'CANCELLED');
  });
});
