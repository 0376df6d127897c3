import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { classifyNack } from '../../../src/ledger/nack.ts';

const classOf = (message: string): string => classifyNack({ code: 13, message }).class;

describe("an Envoy's words on why it refused", () => {
  it('are put into a class of ours', () => {
    const texts: readonly (readonly [string, string])[] = [
      [
        'Failed to load private key from <inline>, Cause: error:0b000074:X.509 certificate routines:OPENSSL_internal:KEY_VALUES_MISMATCH',
        'key-mismatch',
      ],
      ['Failed to load private key from <inline>, Cause: error:0900006e:PEM routines:OPENSSL_internal:NO_START_LINE', 'bad-key'],
      ['Failed to load certificate chain from <inline>', 'bad-chain'],
      ['Failed to load incomplete certificate from : certificate chain not set', 'bad-chain'],
      ['Failed to load incomplete private key from path: ', 'key-missing'],
      ['Invalid path: /etc/signet/keys/0123.key', 'key-missing'],
      ['only RSA certificates with 2048-bit or larger keys are supported', 'bad-chain'],
      ['DataSource cannot be empty', 'constraint'],
      ['Failed to load trusted CA certificates from <inline>', 'bad-trust'],
      ['Failed to load CRL from <inline> without trusted CA', 'bad-trust'],
      ['SAN-based verification of peer certificates without trusted CA is insecure and not allowed', 'bad-trust'],
      ['Proto constraint validation failed (SecretValidationError.TlsCertificate: ["embedded message failed validation"])', 'constraint'],
      ['Unable to unpack as envoy.extensions.transport_sockets.tls.v3.Secret: [type.googleapis.com/x] ...', 'undecodable'],
      ['', 'other'],
      ['something new', 'other'],
    ];
    for (const [text, want] of texts) assert.equal(classOf(text), want, text);
  });

  it('stay readable where they are words that we know', () => {
    const { detail } = classifyNack({
      code: 13,
      message:
        'Failed to load private key from <inline>, Cause: error:0b000074:X.509 certificate routines:OPENSSL_internal:KEY_VALUES_MISMATCH\nmore',
    });
    assert.equal(
      detail,
      'Failed to load private key from <inline>, Cause: error:…X.509 certificate routines:OPENSSL_internal:KEY_VALUES_MISMATCH',
    );
  });

  it('are short, on one line and plain, whatever they were', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 2_000 }), (message) => {
        const { detail } = classifyNack({ code: 13, message });
        assert.ok(detail.length <= 160);
        assert.match(detail, /^[A-Za-z0-9_ ,.:<>()/…-]*$/);
      }),
    );
  });
});

describe('a private key in a NACK', () => {
  const keys = [
    ...Array.from({ length: 20 }, () => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey),
    generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey,
  ].map((key) => ({ der: key.export({ type: 'pkcs8', format: 'der' }), pem: key.export({ type: 'pkcs8', format: 'pem' }).toString() }));

  const octal = (bytes: Buffer): string => Array.from(bytes, (byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('');
  const grouped = (text: string, size: number): string => text.match(new RegExp(`.{1,${String(size)}}`, 'g'))?.join(' ') ?? '';

  /** Every way in which a resource, or a piece of it, may be quoted. */
  const quotings: readonly ((key: (typeof keys)[number], size: number) => string)[] = [
    ({ pem }) => pem,
    ({ pem }) => pem.replaceAll('\n', '\\n'),
    ({ pem }) => pem.replaceAll('\n', ' '),
    ({ pem }) => pem.replaceAll('\n', ''),
    ({ pem }) => pem.split('\n').slice(1, -2).join('\n'),
    ({ pem }) => JSON.stringify({ inline_bytes: Buffer.from(pem).toString('base64') }),
    ({ der }) => der.toString('base64'),
    ({ der }) => der.toString('base64url'),
    ({ der }) => der.toString('hex'),
    ({ der }) => der.toString('hex').toUpperCase(),
    ({ der }) => der.toString('latin1'),
    ({ der }) => octal(der),
    ({ der }, size) => grouped(der.toString('base64'), size),
    ({ der }, size) => grouped(der.toString('hex'), size),
    ({ der }) => Array.from(der, String).join(', '),
    ({ der }) => Array.from(der, String).join('.'),
  ];
  const frames: readonly ((text: string) => string)[] = [
    (text) => text,
    (text) => `Failed to load private key from ${text}`,
    (text) => `Proto constraint validation failed (x): name: "default" tls_certificate { private_key { inline_string: "${text}" } }`,
    (text) => `error: ${text.slice(7)} :key`,
    (text) => `${' '.repeat(100)}${text}`,
  ];

  it('leaves nothing of itself behind, in whatever form it is quoted', () => {
    const choice = fc.record({
      key: fc.constantFrom(...keys),
      quote: fc.constantFrom(...quotings),
      frame: fc.constantFrom(...frames),
      size: fc.integer({ min: 2, max: 40 }),
    });
    fc.assert(
      fc.property(choice, ({ key, quote, frame, size }) => {
        const text = quote(key, size);
        const { detail } = classifyNack({ code: 13, message: frame(text) });
        const skeleton = detail.replace(/[ ,.:<>()/…-]+/g, ' ');
        const ours = classifyNack({ code: 13, message: frame('') }).detail;
        // What is left beyond the frame's own words: by chance words of four letters at most, and the label of a PEM.
        for (const word of skeleton.split(' ').filter((left) => !ours.includes(left)))
          assert.ok(word.length <= 4 || word === 'PRIVATE', `${word} in ${detail}`);
      }),
      { numRuns: 1_000 },
    );
  });
});
