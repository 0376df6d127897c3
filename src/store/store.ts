/**
 * The one narrow interface to durable state. Two implementations pass the same suite: SQLite (one process) and
 * PostgreSQL (replicas). Everything is asynchronous and durable when it resolves; times are ms since the epoch.
 */
export interface IssuedRecord {
  /** Lower-case hex. */
  readonly serial: string;
  readonly spiffeId: string;
  /** Empty for a caller without an instance (a signed CSR that was never bound). */
  readonly instance: string;
  readonly issuer: string;
  readonly authority: string;
  readonly issuerKeyId: string;
  readonly spkiSha256: string;
  readonly notBefore: number;
  readonly notAfter: number;
  readonly issuedAt: number;
  /** The trust generation handed out together with it. */
  readonly trustGeneration: number;
  readonly authenticatedBy: 'token' | 'certificate' | 'external-certificate';
  readonly tokenSeenAt: number;
  /** `intermediate`: the CA certificate of another Signet. */
  readonly keyMode: 'server' | 'csr' | 'agent' | 'signed' | 'intermediate';
}

export interface Binding {
  readonly spiffeId: string;
  readonly instance: string;
  readonly issuer: string;
  readonly spkiSha256: string;
  /** The PKCS#10 request (DER) that proved possession: re-submitted at each renewal. */
  readonly csr: Buffer;
  /** Where the key is on Envoy's host. */
  readonly keyFile: string;
  readonly boundAt: number;
  /** boundAt + keyMaxAge: no certificate for this key ends later, and none is made after. */
  readonly keyEnds: number;
  readonly lastUsedAt: number;
}

export interface AuditEntry {
  readonly at: number;
  readonly actor: string;
  readonly action: string;
  readonly subject: string;
  readonly detail: string;
}

export interface Acknowledgement {
  readonly spiffeId: string;
  readonly instance: string;
  readonly generation: number;
  readonly at: number;
}

export interface Denial {
  readonly spiffeId: string;
  readonly at: number;
  readonly reason: string;
}

export interface IssuedQuery {
  readonly spiffeId?: string;
  readonly instance?: string;
  /** Only those that end after this time. */
  readonly unexpiredAt?: number;
  readonly limit: number;
  /** An opaque cursor from the page before. */
  readonly after?: string;
}

export interface Page<T> {
  readonly items: readonly T[];
  readonly next: string | undefined;
}

/** What changed since a sequence number; replicas follow it. */
export interface Change {
  readonly sequence: number;
  readonly topic: 'trust' | 'bindings' | 'denials';
  readonly key: string;
}

export interface Store {
  /** Concurrent appends of one turn share one transaction. A serial already there is an error: it never happens honestly. */
  appendIssued(batch: readonly IssuedRecord[]): Promise<void>;
  issued: {
    get(serial: string): Promise<IssuedRecord | undefined>;
    /** Newest first. */
    list(query: IssuedQuery): Promise<Page<IssuedRecord>>;
    /** The time of the newest issuance on record: now well before it means a clock that went back. */
    newest(): Promise<number | undefined>;
    countUnexpired(at: number): Promise<number>;
    /** Whether this bearer was ever issued to: its first life is drawn from a wider range. */
    any(spiffeId: string, instance: string): Promise<boolean>;
  };
  bindings: {
    get(spiffeId: string, instance: string): Promise<Binding | undefined>;
    put(binding: Binding): Promise<void>;
    delete(spiffeId: string, instance: string): Promise<boolean>;
    list(limit: number, after?: string): Promise<Page<Binding>>;
  };
  trust: {
    read(name: string): Promise<{ readonly epoch: number; readonly value: Buffer } | undefined>;
    compareAndSet(name: string, expected: number, value: Buffer): Promise<boolean>;
  };
  denials: {
    list(): Promise<readonly Denial[]>;
    put(denial: Denial): Promise<void>;
    delete(spiffeId: string): Promise<boolean>;
  };
  audit: {
    append(batch: readonly AuditEntry[]): Promise<void>;
    list(limit: number, after?: string): Promise<Page<AuditEntry>>;
  };
  /** Advances each bearer's acknowledged generation; never lowers it. */
  acknowledge(batch: readonly Acknowledgement[]): Promise<void>;
  acknowledged(spiffeId: string, instance: string): Promise<number | undefined>;
  /** Changes after `since`, then as they come, until the signal aborts. */
  changes(since: number, signal: AbortSignal): AsyncIterable<Change>;
  /** Runs `fn` while holding the named lease; its signal aborts if the lease is lost. */
  withLease<T>(name: string, fn: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T>;
  /** Deletes issuance records whose certificate ended before `endedBefore`, and acknowledgements of bearers with none left. */
  prune(endedBefore: number): Promise<number>;
  close(): Promise<void>;
}
