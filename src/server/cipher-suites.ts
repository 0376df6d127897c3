/**
 * What the server takes: TLS 1.2 and 1.3, authenticated encryption with forward secrecy alone. Node's own list still
 * has CBC (RFC 7540 Appendix A forbids those to HTTP/2, but only by asking). TLS 1.3 suites first.
 */
export const cipherSuites: string = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
].join(':');
