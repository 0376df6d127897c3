import { request } from 'node:https';
import type { EnvoyAddress } from '../envoy-config/settings.ts';
import type { Answer } from './application.ts';

/** What the client shows and whom it believes, both from Signet. */
export interface ClientIdentity {
  readonly certificate: string;
  readonly key: string;
  readonly anchors: string;
}

export interface CallResult {
  /** Of the leaf that the server showed: lower-case hex. */
  readonly serial: string;
  readonly answer: Answer;
}

const callMs = 2000;

/** One request on a new TCP and TLS connection, without resumption or retry. The server must be exactly `peer`. */
export async function mtlsCall(address: EnvoyAddress, peer: string, identity: ClientIdentity): Promise<CallResult> {
  return new Promise((resolve, reject) => {
    let serial = '';
    const call = request(
      {
        host: address.host,
        port: address.port,
        agent: false,
        cert: identity.certificate,
        key: identity.key,
        ca: identity.anchors,
        rejectUnauthorized: true,
        // No SNI: the name that counts is checked below.
        servername: '',
        // The name in an SVID is its SPIFFE ID. Chain and dates are verified before this is asked.
        checkServerIdentity: (_host, certificate) => {
          serial = certificate.serialNumber.toLowerCase();
          return certificate.subjectaltname === `URI:${peer}`
            ? undefined
            : new Error(`the server is ${certificate.subjectaltname ?? 'nobody'}, not ${peer}`);
        },
      },
      (response) => {
        let body = '';
        response.setEncoding('utf8').on('data', (text: string) => (body += text));
        response.once('error', reject).once('end', () => {
          clearTimeout(timer);
          if (response.statusCode !== 200) reject(new Error(`HTTP ${String(response.statusCode)}: ${body.slice(0, 200)}`));
          else resolve({ serial, answer: JSON.parse(body) as Answer });
        });
      },
    );
    // Over all of it: connect, handshake, and answer.
    const timer = setTimeout(() => call.destroy(new Error(`no answer within ${String(callMs)} ms`)), callMs);
    call.once('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    call.end();
  });
}
