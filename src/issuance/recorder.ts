import type { AuditEntry, IssuedRecord } from '../store/store.ts';

/** Where issuance writes before it shows: both resolve only once durable. */
export interface Recorder {
  issued(record: IssuedRecord): Promise<void>;
  audit(entry: AuditEntry): Promise<void>;
}
