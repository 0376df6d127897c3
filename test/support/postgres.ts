import { spawn } from 'node:child_process';
import { chown, mkdir, writeFile } from 'node:fs/promises';
import { connect as connectTcp } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { once } from 'node:events';
import type { PlainUser } from './debian-programs.ts';
import { normalSerial } from './envoy.ts';
import { eventually } from './eventually.ts';
import type { TlsIdentity } from './mtls-request.ts';
import { endChild, keepTrack, runProgram } from './process.ts';

/** Debian's PostgreSQL in a folder of its own, on loopback, as a plain user. */
export interface Postgres extends AsyncDisposable {
  readonly port: number;
  log(): Promise<string>;
}

export interface PostgresWish {
  readonly programs: string;
  /** For its data, its socket and its log. */
  readonly base: string;
  readonly port: number;
  readonly user: PlainUser | undefined;
  /** More of postgresql.conf, and the whole of pg_hba.conf after the superuser's own line. */
  readonly config: string;
  readonly hba: string;
  /** Run once by the superuser. */
  readonly sql: string;
}

export const dataOf = (base: string): string => join(base, 'data');

/** Its files must be there: it doesn't start without its certificate. */
export async function startPostgres(wish: PostgresWish): Promise<Postgres> {
  const { programs, base, port, user, config, hba, sql } = wish;
  await mkdir(base);
  if (user) await chown(base, user.uid, user.gid);
  const data = dataOf(base);
  await asUser(user, join(programs, 'initdb'), ['-D', data, '-U', 'owner', '-A', 'trust', '-E', 'UTF8', '--locale=C', '-N']);
  const settings = `listen_addresses = '127.0.0.1'\nport = ${port}\nunix_socket_directories = '${base}'\nfsync = off\n${config}`;
  await writeFile(join(data, 'postgresql.conf'), settings);
  await writeFile(join(data, 'pg_hba.conf'), `local all owner trust\n${hba}`);
  const child = spawn(join(programs, 'postgres'), ['-D', data], {
    stdio: ['ignore', 'ignore', 'pipe'],
    ...(user ? { uid: user.uid, gid: user.gid } : {}),
  });
  keepTrack(child);
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  const log = (): Promise<string> => Promise.resolve(said);
  try {
    await eventually(
      'PostgreSQL',
      async () =>
        (await psql(programs, ['-h', base, '-p', String(port), '-U', 'owner', '-d', 'postgres', '-c', sql])).code === 0 || undefined,
    );
  } catch (error) {
    await endChild(child, 'SIGINT');
    throw new Error(said.slice(-3000), { cause: error });
  }
  return {
    port,
    log,
    async [Symbol.asyncDispose]() {
      // Fast shutdown: open sessions are ended (pg_ctl(1)).
      await endChild(child, 'SIGINT');
    },
  };
}

async function psql(programs: string, args: readonly string[]) {
  return runProgram(join(programs, 'psql'), ['-X', '-q', '-v', 'ON_ERROR_STOP=1', ...args]);
}

async function asUser(user: PlainUser | undefined, file: string, args: readonly string[]): Promise<void> {
  const ran = user ? await runProgram('runuser', ['-u', user.name, '--', file, ...args]) : await runProgram(file, args);
  if (ran.code !== 0) throw new Error(`${file}: ${ran.stderr}`);
}

/** PostgreSQL's SSLRequest (protocol-message-formats: 80877103). */
const sslRequest = Buffer.from('0000000804d2162f', 'hex');

/**
 * One new connection up to where the server asks for the password, which it does only after it took the client's certificate.
 * Resolves with the serial that the server showed; rejects with what it said instead.
 */
export async function postgresHandshake(port: number, identity: TlsIdentity, peer: string, deadlineMs = 2000): Promise<string> {
  const signal = AbortSignal.timeout(deadlineMs);
  const tcp = connectTcp({ host: '127.0.0.1', port });
  // Late errors of a connection that is done with are nobody's.
  tcp.on('error', () => undefined);
  try {
    tcp.write(sslRequest);
    const [answer] = (await once(tcp, 'data', { signal })) as [Buffer];
    if (answer.toString() !== 'S') throw new Error('the server speaks no TLS');
    const socket = connectTls({
      socket: tcp,
      host: '127.0.0.1',
      secureContext: identity.context,
      checkServerIdentity: (_host, { subjectaltname }) =>
        subjectaltname === `URI:${peer}` ? undefined : new Error(String(subjectaltname)),
    });
    socket.on('error', () => undefined);
    await once(socket, 'secureConnect', { signal });
    const serial = normalSerial(socket.getPeerCertificate().serialNumber);
    const parameters = Buffer.from('user\0app\0database\0postgres\0\0');
    const header = Buffer.alloc(8);
    header.writeUInt32BE(8 + parameters.length);
    header.writeUInt32BE(0x00030000, 4);
    socket.write(Buffer.concat([header, parameters]));
    const [reply] = (await once(socket, 'data', { signal })) as [Buffer];
    socket.destroy();
    // AuthenticationSASL is 'R' with 10; an ErrorResponse is 'E' with texts.
    if (reply.toString('latin1', 0, 1) !== 'R' || reply.readUInt32BE(5) !== 10)
      throw new Error(reply.toString('latin1').replaceAll('\0', ' '));
    return serial;
  } finally {
    tcp.destroy();
  }
}
