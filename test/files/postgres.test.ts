/** A real PostgreSQL, and libpq as its client, by the page that people read, through rotations of both certificates. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { plainUser, postgresPrograms } from '../support/debian-programs.ts';
import { filesHost, filesIdOf, filesSetting, snippets } from '../support/files-host.ts';
import { describeLoad, startLoadOf } from '../support/load.ts';
import { tlsIdentity } from '../support/mtls-request.ts';
import { foreignCa, foreignLeaf } from '../support/openssl.ts';
import { freePort } from '../support/ports.ts';
import { dataOf, postgresHandshake, startPostgres } from '../support/postgres.ts';
import { runProgram } from '../support/process.ts';

const programs = await postgresPrograms();
const user = await plainUser('postgres');
const rotations = 3;
const password = 'only for this test';

/** The page's own words, with the paths of this host. */
function here(text: string, folder: string): string {
  return text
    .replaceAll('/run/signet', folder)
    .replaceAll('/usr/lib/postgresql/15/bin', programs)
    .replaceAll('/var/lib/postgresql/15/main', dataOf(join(folder, 'pg')));
}

describe('PostgreSQL with files of the agent', () => {
  it(`takes clients with certificates through ${rotations} rotations, with 0 failed`, async (t) => {
    await using host = await filesHost('12s');
    const told = await filesSetting('PostgreSQL', (text) => here(text, host.folder));
    const { folder, command = [] } = told;
    // As postgres itself: without the group and `runuser -u postgres --`.
    await host.agent({ postgres: user ? told : { folder, command: command.slice(4) }, app: { folder: join(host.folder, 'app-tls') } });
    const [config = ''] = await snippets('PostgreSQL', 'ini');
    const [hba = ''] = await snippets('PostgreSQL', 'text');
    const [client = ''] = await snippets('PostgreSQL', 'sh');
    const port = await freePort();
    await using postgres = await startPostgres({
      programs,
      base: join(host.folder, 'pg'),
      port,
      user,
      config: here(config, host.folder),
      hba,
      sql: `create role app login password '${password}'`,
    });

    const peer = filesIdOf('postgres');
    const load = startLoadOf(() => postgresHandshake(port, host.client, peer));
    // Whole sessions by libpq, as the page has it, with a certificate that rotates as well: one after the other, all the time.
    const environment = { PATH: process.env.PATH, PGPORT: String(port), PGPASSWORD: password, PGCONNECT_TIMEOUT: '5' };
    const script = here(client, host.folder).replace('psql ', `${join(programs, 'psql')} -X `);
    const clientSerials = new Set<string>();
    let [sessions, failures] = [0, ''];
    const done = new AbortController();
    const libpq = (async () => {
      while (!done.signal.aborted) {
        const ran = await runProgram('/bin/sh', ['-ec', script], { env: environment });
        sessions++;
        if (ran.code === 0 && ran.stdout.startsWith('t|')) clientSerials.add(ran.stdout.trim());
        else failures += ran.stdout + ran.stderr;
      }
    })();
    await load.sawSerials(rotations + 1);
    done.abort();
    await libpq;
    const report = await load.stop();
    t.diagnostic(`${describeLoad(report)}; ${sessions} sessions of libpq with ${clientSerials.size} certificates of its own`);
    assert.equal(report.failed, 0, `${describeLoad(report)}\n${await postgres.log()}\n${host.agentOutput().slice(-3000)}`);
    assert.equal(failures, '');
    assert.ok(clientSerials.size > 1);

    const none = tlsIdentity(undefined, host.anchors);
    await assert.rejects(postgresHandshake(port, none, peer), /requires a valid client certificate/);
    const stranger = tlsIdentity(await foreignLeaf(await foreignCa(), { uri: filesIdOf('app') }), host.anchors);
    await assert.rejects(postgresHandshake(port, stranger, peer), /unknown ca/i);
    const clear = await runProgram(join(programs, 'psql'), ['-X', '-h', '127.0.0.1', '-U', 'app', '-d', 'postgres', '-c', 'select 1'], {
      env: { ...environment, PGSSLMODE: 'disable' },
    });
    assert.match(clear.stderr, /pg_hba\.conf rejects connection|no encryption/);
  });
});
