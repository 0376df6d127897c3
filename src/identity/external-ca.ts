import type { Clock } from '../base/clock.ts';
import { SignetError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { certificatesFromPem } from '../x509/pem.ts';
import { readSmallFile } from '../base/small-file.ts';

/** Somebody else's CA: what its certificates are verified by. */
export interface ExternalCa {
  /** Self-signed certificates of the file (DER). The same array as long as they are the same. */
  readonly anchors: readonly Buffer[];
  /** The other CA certificates of the file: TLS shows us a client's leaf alone, so these complete its chain. */
  readonly intermediates: readonly Buffer[];
}

export interface ExternalCaFile {
  current(): ExternalCa;
  /** Called after each change. */
  onChange(listener: () => void): () => void;
  close(): void;
}

const longestFile = 1024 * 1024;
const everyMs = 5000;

/** A PEM file of CAs, read again every few seconds; a bad one is complained of once and what it last held stays. Throws CONFIG_INVALID at the start. */
export async function openExternalCaFile(file: string, context: { readonly clock: Clock; readonly log: Log }): Promise<ExternalCaFile> {
  const listeners = new Set<() => void>();
  let judged: Buffer = await readSmallFile(file, longestFile).catch((error: unknown) => {
    throw new SignetError('CONFIG_INVALID', `identity.certificates: ${file} can't be read`, { cause: error });
  });
  let current: ExternalCa;
  try {
    current = parse(judged);
  } catch (error) {
    throw new SignetError('CONFIG_INVALID', `identity.certificates: ${file}: ${SignetError.from(error).message}`, { cause: error });
  }

  async function look(): Promise<void> {
    let content: Buffer;
    try {
      content = await readSmallFile(file, longestFile);
    } catch (error) {
      // It may be in the middle of being replaced; the next look tells.
      context.log.debug({ file, err: error }, 'a file of external CAs could not be read');
      return;
    }
    if (content.equals(judged)) return;
    judged = content;
    try {
      current = parse(content);
    } catch (error) {
      context.log.error({ file, err: error }, 'a file of external CAs was refused; the CAs that it last held stay');
      return;
    }
    context.log.info({ file, anchors: current.anchors.length }, 'external CAs taken up');
    for (const listener of [...listeners]) listener();
  }

  let looking = false;
  const timer = setInterval(() => {
    if (looking) return;
    looking = true;
    void look().finally(() => {
      looking = false;
    });
  }, everyMs);
  timer.unref();

  return {
    current: () => current,
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close() {
      clearInterval(timer);
      listeners.clear();
    },
  };
}

/** Throws INVALID_ARGUMENT. */
function parse(content: Buffer): ExternalCa {
  const certificates = certificatesFromPem(content.toString('latin1')).map(parseCertificate);
  const other = certificates.find(({ isCa }) => !isCa);
  if (other) throw new SignetError('INVALID_ARGUMENT', `${other.subjectText} is not a CA`);
  const [anchors, intermediates] = [true, false].map((selfSigned) =>
    certificates.filter(({ subject, issuer }) => subject.equals(issuer) === selfSigned).map(({ der }) => der),
  );
  if (!anchors || anchors.length === 0) throw new SignetError('INVALID_ARGUMENT', 'it holds no self-signed root');
  return { anchors, intermediates: intermediates ?? [] };
}
