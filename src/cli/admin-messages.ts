/** The messages of signet.v1.AdminService as the CLI reads them: proto/signet/v1/admin_service.proto. Times in ms since the epoch. */
export interface Certificate {
  readonly serial: string;
  readonly spiffeId: string;
  readonly instance: string;
  readonly issuer: string;
  readonly authority: string;
  readonly issuerKeyId: string;
  readonly spkiSha256: string;
  readonly notBefore: number;
  readonly notAfter: number;
  readonly issuedAt: number;
  readonly trustGeneration: number;
  readonly authenticatedBy: string;
  readonly tokenSeenAt: number;
  readonly keyMode: string;
}

export interface ServerStatus {
  readonly version: string;
  readonly trustDomain: string;
  readonly mode: string;
  readonly ready: boolean;
  readonly detail: string;
  readonly startedAt: number;
  readonly trustGeneration: number;
  readonly anchors: readonly Anchor[];
  readonly streams: readonly StreamStatus[];
  readonly certificatesUnexpired: number;
  /** The server's clock: times to come are told from it, not from ours. */
  readonly now: number;
  readonly authorities: readonly AuthorityStatus[];
  readonly streamCount: number;
  /** Null of a server that has none. */
  readonly jwtKey: JwtKeyStatus | null;
}

export interface JwtKeyStatus {
  readonly keyId: string;
  readonly signsUntil: number;
  /** Empty before it is published. */
  readonly nextKeyId: string;
}

export interface AuthorityStatus {
  readonly name: string;
  readonly type: string;
  readonly canSign: boolean;
  readonly detail: string;
}

export interface Anchor {
  readonly subject: string;
  readonly sha256: string;
  readonly notAfter: number;
}

export interface StreamStatus {
  readonly id: number;
  readonly spiffeId: string;
  readonly instance: string;
  readonly api: string;
  readonly nodeId: string;
  readonly envoyVersion: string;
  readonly openedAt: number;
  readonly secrets: readonly SecretStatus[];
}

export interface SecretStatus {
  readonly key: string;
  readonly state: string;
  readonly version: string;
  readonly serial: string;
  readonly nackClass: string;
  readonly nackDetail: string;
  readonly at: number;
  /** 0 where there is none. */
  readonly notAfter: number;
  readonly renewAt: number;
}

export interface Denial {
  readonly spiffeId: string;
  readonly at: number;
  readonly reason: string;
}

export interface Binding {
  readonly spiffeId: string;
  readonly instance: string;
  readonly spkiSha256: string;
  readonly keyFile: string;
  readonly boundAt: number;
  readonly keyEnds: number;
  readonly lastUsedAt: number;
}
