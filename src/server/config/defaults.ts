/** Every default of the configuration, in the words of the file. What --dev changes is in dev.ts. */
export const defaults = {
  listen: { grpc: '127.0.0.1:8443', http: '127.0.0.1:8080' },
  issuer: {
    audiences: ['signet', 'istio-ca'],
    algorithms: ['RS256', 'ES256'],
    path: '/ns/{/kubernetes.io/namespace}/sa/{/kubernetes.io/serviceaccount/name}',
    cacheFor: '1m',
  },
  identity: { maxTokenLifetime: '24h', reauthenticateAfter: '7d' },
  signing: { concurrency: 64, queue: 1000, wait: '5s', timeout: '10s' },
  tiers: { critical: '12h', standard: '24h', dev: '7d' },
  policy: {
    tier: 'standard',
    keyMode: 'csr',
    keyDirectories: ['/etc/signet/keys', '/var/lib/signet/keys', '/run/signet/keys'],
    keyMaxAge: '30d',
  },
  jwt: { ttl: '5m', keyLife: '24h', refreshHint: '5m' },
  store: { retainExpired: '30d' },
  log: { level: 'info' },
  limits: {
    maxStreamAge: '30m',
    maxConnectionAge: '1h',
    streamsPerIdentity: 1000,
    streamsPerConnection: 1000,
    issuancePerSecond: 200,
    issuanceBurst: 2000,
    totalIssuancePerSecond: 2000,
    totalIssuanceBurst: 20_000,
    requestTimeout: '15s',
  },
} as const;
