import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../src/base/clock.ts';
import type { Authority } from '../../src/ca/authority.ts';
import { commandSource } from '../../src/ca/plugin/command-source.ts';
import { configuredSource } from '../../src/ca/plugin/configured-source.ts';
import { openPluginAuthority } from '../../src/ca/plugin/plugin-authority.ts';
import type { Pulse } from '../../src/ca/plugin/plugin-link.ts';
import type { PluginSource } from '../../src/ca/plugin/plugin-source.ts';
import { pluginSettings } from '../../src/ca/plugin/settings.ts';
import { parseTrustDomain } from '../../src/spiffe/id.ts';
import { signingRequest } from '../support/authority-suite.ts';
import { eventually } from '../support/eventually.ts';
import { failureOf } from '../support/failure.ts';
import { keepTrack } from '../support/process.ts';
import { recordingLog } from '../support/recording-log.ts';
import type { RecordingLog } from '../support/recording-log.ts';
import { tempFolder } from '../support/temp.ts';
import type { TempFolder } from '../support/temp.ts';

const trustDomain = parseTrustDomain('example.org');
const program = fileURLToPath(new URL('../support/plugin-program.ts', import.meta.url));
const keeper = fileURLToPath(new URL('../support/plugin-keeper.ts', import.meta.url));
const never = new AbortController().signal;

interface Kept extends AsyncDisposable {
  readonly authority: Authority;
  readonly log: RecordingLog;
  readonly temp: TempFolder;
  /** The number that the plugin told last under this name. */
  pid(name: string): Promise<number>;
}

async function keep(
  manner: string,
  options: { startTimeoutMs?: number; pulse?: Pulse; source?: (temp: TempFolder, log: RecordingLog) => PluginSource } = {},
): Promise<Kept> {
  const temp = await tempFolder();
  const log = recordingLog();
  const usual = (): PluginSource =>
    commandSource({
      name: 'kept',
      command: [process.execPath, program, manner, temp.file('ca')],
      environment: {},
      folder: temp.file('run'),
      clock: systemClock,
      log,
      graceMs: 300,
    });
  const source = options.source?.(temp, log) ?? usual();
  const authority = await openPluginAuthority({
    name: 'kept',
    trustDomain,
    source,
    startTimeoutMs: options.startTimeoutMs ?? 30_000,
    random: () => 0,
    log,
    ...(options.pulse ? { pulse: options.pulse } : {}),
  });
  return {
    authority,
    log,
    temp,
    pid: (name) =>
      eventually(`the plugin tells ${name}`, () => {
        const told = log.lines.findLast(({ message }) => message.startsWith(`plugin: ${name}=`));
        return told && Number(told.message.slice(`plugin: ${name}=`.length));
      }),
    async [Symbol.asyncDispose]() {
      await authority.close();
      await temp[Symbol.asyncDispose]();
    },
  };
}

function lives(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

const gone = (pid: number): Promise<true> => eventually(`process ${String(pid)} is gone`, () => (lives(pid) ? undefined : true));

describe('a plugin that Signet starts', () => {
  it('listens in a folder that nobody else may enter, and leaves nothing there', async () => {
    const kept = await keep('good');
    const folder = kept.temp.file('run');
    assert.equal((await stat(folder)).mode & 0o777, 0o700);
    assert.equal((await readdir(folder)).length, 1);
    const pid = await kept.pid('pid');
    await kept.authority.close();
    assert.equal(lives(pid), false);
    assert.deepEqual(await readdir(folder), []);
    await kept.temp[Symbol.asyncDispose]();
  });

  it("gets the variables that its settings name, and none of Signet's own besides", async () => {
    const settings = pluginSettings.parse({
      type: 'plugin',
      command: [process.execPath, program, 'telling', '/nonexistent'],
      environment: { REGION: 'eu-1' },
      inheritEnvironment: ['CA_TOKEN_FILE', 'NOT_SET'],
    });
    const own = { CA_TOKEN_FILE: '/run/token', DATABASE_PASSWORD: 'hunter2', SIGNET_KEY: 'sealing' };
    await using kept = await keep('', {
      source: (temp, log) =>
        configuredSource(settings, { name: 'kept', folder: temp.file('run'), environment: own, clock: systemClock, log }),
    });
    const line = await eventually('it tells', () => kept.log.lines.find(({ message }) => message.startsWith('plugin: environment ')));
    const environment = JSON.parse(line.message.slice('plugin: environment '.length)) as Record<string, string>;
    assert.equal(dirname(environment['SIGNET_PLUGIN_SOCKET'] ?? ''), kept.temp.file('run'));
    assert.deepEqual(Object.keys(environment).sort(), [
      'CA_TOKEN_FILE',
      'PATH',
      'REGION',
      'SIGNET_PLUGIN_REVISION',
      'SIGNET_PLUGIN_SOCKET',
    ]);
  });

  it('is started again when it dies, and signs under the same CA', async () => {
    await using kept = await keep('good');
    const anchors = await kept.authority.anchors(never);
    const first = await kept.pid('pid');
    process.kill(first, 'SIGKILL');
    await gone(first);
    await eventually('it signs again', async () => (await kept.authority.sign(signingRequest(trustDomain), never)).issuerKeyId);
    assert.notEqual(await kept.pid('pid'), first);
    assert.deepEqual(await kept.authority.anchors(never), anchors);
    assert.ok(kept.log.lines.some(({ level, message }) => level === 'error' && message === 'the plugin ended by itself'));
  });

  it('that hangs is ended and started again', async () => {
    await using kept = await keep('good', { pulse: { everyMs: 200, timeoutMs: 1000 } });
    const hung = await kept.pid('pid');
    process.kill(hung, 'SIGSTOP');
    await gone(hung);
    await eventually(
      'it signs again',
      async () => (await kept.authority.sign(signingRequest(trustDomain), AbortSignal.timeout(1000))).issuerKeyId,
    );
    assert.ok(kept.log.lines.some(({ fields }) => 'err' in fields && /hangs/.test(String(fields.err))));
  });

  it('that ignores SIGTERM is killed with all that it started', async () => {
    const kept = await keep('stubborn');
    const pids = [await kept.pid('pid'), await kept.pid('child')];
    assert.deepEqual(pids.map(lives), [true, true]);
    await kept.authority.close();
    for (const pid of pids) await gone(pid);
    await kept.temp[Symbol.asyncDispose]();
  });

  it('ends with Signet, even when that is killed', async () => {
    await using temp = await tempFolder();
    const signet = spawn(process.execPath, [keeper, temp.file('run'), temp.file('ca')], { stdio: ['ignore', 'pipe', 'inherit'] });
    keepTrack(signet);
    let output = '';
    signet.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
    const pids = await eventually('it is up', () => {
      const found = [...output.matchAll(/(?:pid|child)=(\d+)/g)].map(([, pid]) => Number(pid));
      return found.length === 2 && output.includes('up\n') ? found : undefined;
    });
    assert.deepEqual(pids.map(lives), [true, true]);
    signet.kill('SIGKILL');
    for (const pid of pids) await gone(pid);
    await eventually('its socket is gone', async () => ((await readdir(temp.file('run'))).length === 0 ? true : undefined));
  });

  it('that never listens is given up in time; the server opens without it, and says why it can not sign', async () => {
    await using kept = await keep('silent', { startTimeoutMs: 1000 });
    const refused = await failureOf(kept.authority.sign(signingRequest(trustDomain), never));
    assert.equal(refused.code, 'AUTHORITY_UNAVAILABLE');
    assert.equal((await failureOf(kept.authority.anchors(never))).code, 'AUTHORITY_UNAVAILABLE');
    const health = await kept.authority.health(never);
    assert.equal(health.canSign, false);
    assert.notEqual(health.detail, '');
    assert.ok(kept.authority.issuersEnd() > Date.now());
  });

  it('that ends at once is told with its last words, and tried again', async () => {
    await using kept = await keep('dying');
    assert.match((await failureOf(kept.authority.sign(signingRequest(trustDomain), never))).message, /ended \(exit code 3\)/);
    await eventually('it was started twice', () =>
      kept.log.lines.filter(({ message }) => message === 'plugin: no licence found').length > 1 ? true : undefined,
    );
  });

  it('that is not there is misconfigured, and named', async () => {
    await using kept = await keep('', {
      source: (temp, log) =>
        commandSource({
          name: 'kept',
          command: [temp.file('missing')],
          environment: {},
          folder: temp.file('run'),
          clock: systemClock,
          log,
        }),
    });
    const error = await failureOf(kept.authority.sign(signingRequest(trustDomain), never));
    assert.equal(error.code, 'AUTHORITY_MISCONFIGURED');
    assert.match(error.message, /missing is not there/);
  });
});
