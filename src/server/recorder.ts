import { abortable, deadlineSignal } from '../base/deadline.ts';
import type { Recorder } from '../issuance/recorder.ts';
import type { Store } from '../store/store.ts';

const auditTimeoutMs = 10_000;

/**
 * What issuance writes before it shows. A write of the hot path carries no timer of its own: the store answers from the
 * commit that the whole turn shares, and the request around it has a deadline.
 */
export function createRecorder(store: Pick<Store, 'appendIssued' | 'audit'>): Recorder {
  return {
    issued: (record) => store.appendIssued([record]),
    audit: (entry) => abortable(store.audit.append([entry]), deadlineSignal(auditTimeoutMs)),
  };
}
