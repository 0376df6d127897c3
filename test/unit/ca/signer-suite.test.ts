/** The cases of the suite themselves, on a custodian in this process: each fault is told as it is. */
import type { ErrorCode } from '../../../src/base/errors.ts';
import { fakeCustodian } from '../../support/fake-signer.ts';
import { signerSuite } from '../../support/signer-suite.ts';

signerSuite({
  name: 'fake, in this process',
  make(kind) {
    const custodian = fakeCustodian(kind, 1);
    const failing = (code: ErrorCode) => () => {
      custodian.fails = code;
      return Promise.resolve(() => {
        custodian.fails = undefined;
        return Promise.resolve();
      });
    };
    let back = (): Promise<void> => Promise.resolve();
    const outage = {
      stop: async () => {
        back = await failing('AUTHORITY_UNAVAILABLE')();
      },
      start: () => back(),
    };
    return Promise.resolve({
      open: () => Promise.resolve(custodian.open()),
      faults: { throttle: failing('AUTHORITY_THROTTLED'), disable: failing('AUTHORITY_REFUSED'), outage },
      dispose: () => Promise.resolve(),
    });
  },
});
