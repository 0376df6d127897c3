import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { SignetError } from '../../base/errors.ts';
import { harmless } from '../../base/harmless.ts';
import type { Log } from '../../base/log.ts';
import { addressSource, socketSource } from '../../ca/plugin/address-source.ts';
import { commandSource } from '../../ca/plugin/command-source.ts';
import { interruptible } from '../../ca/plugin/interruptible-source.ts';
import type { InterruptibleSource } from '../../ca/plugin/interruptible-source.ts';
import { openPluginAuthority } from '../../ca/plugin/plugin-authority.ts';
import type { PluginSource } from '../../ca/plugin/plugin-source.ts';
import { parseCertificate } from '../../x509/certificate.ts';
import { sha256Hex } from '../../x509/keys.ts';
import { certificatesFromPem } from '../../x509/pem.ts';
import type { Session } from '../session.ts';
import { printJson } from '../session.ts';
import type { Terminal } from '../terminal.ts';
import { paintFor } from '../terminal.ts';
import type { PluginTestOptions } from './test-options.ts';
import { runConformance } from './conformance.ts';
import type { CaseResult, ConformanceOutcome } from './conformance.ts';

const name = 'plugin';

/** What `signet plugin test` does; leaves 0 or 1 in the session's exit code. */
export async function testPlugin(options: PluginTestOptions, session: Session): Promise<void> {
  const { terminal } = session;
  const folder = await mkdtemp(join(tmpdir(), 'signet-plugin-'));
  const log = terminalLog(terminal);
  let source: InterruptibleSource | undefined;
  try {
    const outcome = await runConformance({
      subject: {
        trustDomain: options.trustDomain,
        intermediates: undefined,
        shortestLifeMs: options.shortestLife,
        open() {
          source = interruptible(sourceOf(options, folder, session, log));
          const { trustDomain, startTimeout } = options;
          return openPluginAuthority({ name, trustDomain, source, startTimeoutMs: startTimeout, random: Math.random, log });
        },
        faults: options.command ? { outage: { stop: async () => source?.stop(), start: async () => source?.start() } } : {},
      },
      approved: options.anchors === undefined ? undefined : await anchorsOf(options.anchors),
      signatures: options.signatures,
      signal: terminal.interrupted(),
      told: (result) => {
        if (!options.json) terminal.out(caseLine(result, terminal));
      },
    });
    if (outcome.cases.some(({ result }) => result === 'failed')) session.exitCode = 1;
    if (options.json) printJson(terminal, jsonOf(outcome));
    else terminal.out(summary(outcome, options.anchors === undefined));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function sourceOf(options: PluginTestOptions, folder: string, { clock }: Session, log: Log): PluginSource {
  const { socket, address, tlsCa, tlsCertificate, tlsKey } = options;
  const [program, ...args] = options.command ?? [];
  // The author's shell knows where it is; Signet's configuration wants it written out.
  if (program !== undefined)
    return commandSource({ name, command: [resolve(program), ...args], environment: options.environment ?? {}, folder, clock, log });
  if (socket !== undefined) return socketSource(resolve(socket));
  if (address !== undefined && tlsCa !== undefined && tlsCertificate !== undefined && tlsKey !== undefined) {
    const tls = { ca: tlsCa, certificate: tlsCertificate, key: tlsKey, serverName: options.tlsServerName };
    return addressSource({ name, address, tls, log });
  }
  throw new SignetError('INVALID_ARGUMENT', 'give one of --command, --socket and --address');
}

async function anchorsOf(file: string): Promise<readonly Buffer[]> {
  try {
    return certificatesFromPem(await readFile(file, 'utf8'));
  } catch (error) {
    const why = error instanceof SignetError ? error.message : "it can't be read";
    throw new SignetError('INVALID_ARGUMENT', `--anchors ${file}: ${why}`, { cause: error });
  }
}

function caseLine({ name: what, result, why, ms }: CaseResult, terminal: Terminal): string {
  const paint = paintFor(terminal);
  const mark = { ok: paint.green('ok     '), failed: paint.red('FAILED '), 'not run': paint.yellow('not run') }[result];
  const time = result === 'ok' ? paint.dim(` (${String(Math.round(ms))} ms)`) : '';
  return `${mark} ${what}${time}\n${why === undefined ? '' : `        ${harmless(why)}\n`}`;
}

function summary({ cases, latency, anchors }: ConformanceOutcome, listAnchors: boolean): string {
  const count = (result: CaseResult['result']): string => `${String(cases.filter((one) => one.result === result).length)} ${result}`;
  const lines = ['', `${count('ok')}, ${count('failed')}, ${count('not run')}`];
  if (latency) {
    const { signatures, p50, p99 } = latency;
    lines.push(`${String(signatures)} signatures, one after the other: p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`);
  }
  if (listAnchors && anchors.length > 0) {
    lines.push('', 'It names these roots. To trust them, put into its settings:', '  approvedAnchors:');
    for (const der of anchors) lines.push(`    - ${sha256Hex(der)}  # ${harmless(parseCertificate(der).subjectText)}`);
  }
  return `${lines.join('\n')}\n`;
}

function jsonOf({ cases, latency, anchors }: ConformanceOutcome): object {
  return {
    ok: cases.every(({ result }) => result !== 'failed'),
    cases,
    latencyMs: latency,
    anchors: anchors.map((der) => {
      const { subjectText, notAfter } = parseCertificate(der);
      return { sha256: sha256Hex(der), subject: subjectText, notAfter: new Date(notAfter).toISOString() };
    }),
  };
}

/** What the plugin prints, and what Signet would log of it, for the author. */
function terminalLog(terminal: Terminal): Log {
  const paint = paintFor(terminal);
  const line =
    (mark: string) =>
    (fields: object, message: string): void => {
      const why = 'err' in fields && fields.err instanceof Error ? `: ${fields.err.message}` : '';
      terminal.err(paint.dim(`  ${mark} ${harmless(message + why)}\n`));
    };
  return { debug: () => undefined, info: line('|'), warn: line('!'), error: line('!') };
}
