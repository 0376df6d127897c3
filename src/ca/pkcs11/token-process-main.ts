/**
 * The process that a vendor's PKCS#11 module is loaded into. Its calls block, hang and crash as they like: here it is nobody
 * else's thread, memory or log. It ends with its parent.
 */
import { SignetError } from '../../base/errors.ts';
import { cryptokiError, isStale } from './cryptoki.ts';
import { tokenErrorCode } from './messages.ts';
import type { Numbered, TokenAnswer, TokenRequest } from './messages.ts';
import { createTokenKey, openToken } from './token.ts';
import type { Token } from './token.ts';

let token: Token | undefined;

async function answer(request: TokenRequest): Promise<unknown> {
  switch (request.op) {
    case 'open':
      token = await openToken(request.settings, request.pin);
      return { spki: token.spki, extractable: token.extractable };
    case 'create':
      return { keyId: await createTokenKey(request.settings, request.pin, request.kind) };
    case 'sign':
      return { signature: await opened().sign(Buffer.from(request.data)) };
    case 'check':
      opened().check();
      return {};
  }
}

function opened(): Token {
  if (!token) throw new SignetError('INTERNAL', 'PKCS#11: no token is open');
  return token;
}

function failure(error: unknown) {
  const { code, message } = cryptokiError(error, 'it could not be signed');
  return { code: tokenErrorCode(code), message: message.slice(0, 2000), stale: isStale(error) };
}

function reply(message: TokenAnswer): void {
  // The parent may have gone; then so shall we.
  process.send?.(message, () => undefined);
}

process.on('message', (message) => {
  // From our own parent, over a socket that nobody else has.
  const request = message as Numbered<TokenRequest>;
  answer(request).then(
    (value) => {
      reply({ id: request.id, value });
    },
    (error: unknown) => {
      reply({ id: request.id, error: failure(error) });
    },
  );
});
process.on('disconnect', () => {
  process.exit(0);
});
// Whoever ends the whole group of processes ends the server, which drains first and signs meanwhile.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
