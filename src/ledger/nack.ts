import type { Nack, NackClass } from './delivery.ts';

/** What is read of a NACK's text at most, and what is kept of it. */
const readAtMost = 4096;
const keptAtMost = 160;

/** What the texts of Envoy 1.36 to 1.40 say, most telling first. */
const signs: readonly (readonly [RegExp, NackClass])[] = [
  [/KEY_VALUES_MISMATCH|KEY_TYPE_MISMATCH/, 'key-mismatch'],
  [/Invalid path: |incomplete private key|unable to read file/i, 'key-missing'],
  [/Proto constraint validation failed|ValidationError/, 'constraint'],
  [/trusted CA|CRL|SAN-based|SAN matcher/i, 'bad-trust'],
  [/Failed to load private key/i, 'bad-key'],
  [/certificate chain|incomplete certificate|only RSA certificates|ECDSA certificate/i, 'bad-chain'],
  [/unable to (parse|unpack|convert)|failed to (parse|unpack|decode)|wire.?type|undecodable|malformed/i, 'undecodable'],
  [/DataSource cannot be empty|constraint|is required|must (be|have|contain)/i, 'constraint'],
];

/**
 * A constraint failure dumps the whole resource, private key and all, in whatever escaping; no list of what to take out
 * would be complete. So the other way about: only these words are kept. Nothing else of the client's text gets through.
 */
const vocabulary = new Set(
  (
    'a adding already an and any are as at bad based be been before bit but by ca can cannot cause certificate certificates chain ' +
    'context constraint constraints contain could crl curve curves datasource decode does duplicate ec ecdsa element empty envoy error ' +
    'errors expected expired extension failed field fields file files follows for format found from has have if in incomplete inline ' +
    'invalid is it item key keys larger length less list load loaded loading match matcher matchers matching mismatch missing more must name ' +
    'names no not of on one only openssl or parse path permission private proto provider public read regex rejected required resource ' +
    'resources routines rsa san secret secrets session set size smaller so specified subject such supported system than that the ticket tls to ' +
    'too trusted type types unable unexpected unknown unpack unsupported updating uri use used using validation value values verification version ' +
    'was when which with without x509 ' +
    'x 509 caused embedded pem asn der p256 p384 p521 2048 ' +
    'key_values_mismatch key_type_mismatch no_start_line bad_base64_decode bad_end_line decode_error not_a_certificate wrong_tag ' +
    'openssl_internal header_too_long unsupported_algorithm too_long'
  ).split(' '),
);
const separators = new Set([' ', ',', '.', ':', '<', '>', '(', ')', '-', '/']);
const dropped = '…';

/** Envoy's words on why it refused, as a class of ours and a first line that holds nothing but words of ours. */
export function classifyNack(detail: { readonly code: number; readonly message: string }): Nack {
  const text = detail.message.slice(0, readAtMost);
  const sign = signs.find(([pattern]) => pattern.test(text));
  return { class: sign?.[1] ?? 'other', detail: redact(text) };
}

/** The first line, up to the first quotation, of words from the vocabulary; anything else is an ellipsis. */
function redact(text: string): string {
  const end = text.search(/[\r\n\\"'`{}]|-----|inline_/);
  const line = end < 0 ? text : text.slice(0, end);
  let kept = '';
  for (const [piece] of line.matchAll(/[A-Za-z0-9_]+|[^A-Za-z0-9_]/g)) {
    if (kept.length >= keptAtMost) break;
    if (separators.has(piece) || isKnownWord(piece)) kept += piece;
    else if (!kept.endsWith(dropped)) kept += dropped;
  }
  return kept
    .replace(/(?:…[ ,.:<>()/-]?)+/g, (run) => (run.endsWith(' ') ? `${dropped} ` : dropped))
    .slice(0, keptAtMost)
    .trim();
}

/** In lower or upper case, or with a capital: spelling of no other kind carries information through. */
function isKnownWord(word: string): boolean {
  const lower = word.toLowerCase();
  if (!vocabulary.has(lower)) return false;
  return (
    word === lower || word === word.toUpperCase() || word.slice(1) === lower.slice(1) || ['DataSource', 'OPENSSL_internal'].includes(word)
  );
}
