import assert from 'node:assert/strict';
import { fails, fingerprints, never, noticeMs, openingOrSigning, request, verify, within } from './authority-under-test.ts';
import type { AuthorityCase } from './authority-under-test.ts';

/** What holds when something goes wrong with the CA or with the way to it. The last one leaves the CA changed. */
export const authorityFaultCases: readonly AuthorityCase[] = [
  {
    name: 'says that a credential is refused',
    needs: 'openRefused',
    async run(held) {
      const { openRefused } = held.subject.faults;
      assert.ok(openRefused);
      await fails(() => openingOrSigning(held, openRefused), ['AUTHORITY_REFUSED']);
    },
  },
  {
    name: 'says that it is misconfigured, and not that it is away',
    needs: 'openMisconfigured',
    async run(held) {
      const { openMisconfigured } = held.subject.faults;
      assert.ok(openMisconfigured);
      await fails(() => openingOrSigning(held, openMisconfigured), ['AUTHORITY_MISCONFIGURED']);
    },
  },
  {
    name: 'says that it is throttled, and signs again afterwards',
    needs: 'throttle',
    async run(held) {
      const { throttle } = held.subject.faults;
      assert.ok(throttle);
      const lift = await throttle();
      await fails(async () => {
        // A quota lets the first ones through.
        for (let i = 0; i < 200; i++) await held.authority.sign(request(held), never);
      }, ['AUTHORITY_THROTTLED']);
      await lift();
      await within(noticeMs, 'signs again', async () => {
        await held.authority.sign(request(held), never);
      });
    },
  },
  {
    name: 'says that the CA is away, keeps its anchors, and signs again when it is back',
    needs: 'outage',
    async run(held) {
      const { outage } = held.subject.faults;
      assert.ok(outage);
      const before = fingerprints(await held.authority.anchors(never));
      await outage.stop();
      try {
        await fails(() => held.authority.sign(request(held), AbortSignal.timeout(5000)), ['AUTHORITY_UNAVAILABLE', 'DEADLINE_EXCEEDED']);
        assert.equal((await held.authority.health(AbortSignal.timeout(5000)).catch(() => ({ canSign: false }))).canSign, false);
      } finally {
        await outage.start();
      }
      await within(noticeMs, 'signs again', async () => {
        const asked = request(held);
        await verify(held, asked, await held.authority.sign(asked, never));
      });
      assert.deepEqual(fingerprints(await held.authority.anchors(never)), before);
    },
  },
  {
    name: 'renews its credential before that ends',
    needs: 'outliveCredential',
    async run(held) {
      const { outliveCredential } = held.subject.faults;
      assert.ok(outliveCredential);
      await outliveCredential(held.authority);
      const asked = request(held);
      await verify(held, asked, await held.authority.sign(asked, never));
    },
  },
  {
    name: 'notices that the CA has another root, and says so before a leaf chains to it',
    needs: 'rotate',
    async run(held) {
      const { rotate } = held.subject.faults;
      assert.ok(rotate);
      const before = fingerprints(await held.authority.anchors(never));
      let told = 0;
      const stop = held.authority.onChange(() => {
        told++;
      });
      await rotate();
      await within(noticeMs, 'gives the new anchors', async () => {
        // The pipeline asks for a certificate all the while; what chains to an anchor that isn't trusted yet is not used.
        const asked = request(held);
        const anchors = await held.authority.anchors(never);
        assert.ok(
          fingerprints(anchors).some((one) => !before.includes(one)),
          'the anchors are the old ones',
        );
        await verify(held, asked, await held.authority.sign(asked, never));
      });
      stop();
      assert.ok(told > 0, 'onChange was not called');
    },
  },
];
