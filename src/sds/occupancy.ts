import type { Clock } from '../base/clock.ts';
import type { DeadlineHeap } from '../base/deadline-heap.ts';
import { SignetError } from '../base/errors.ts';
import { spend } from './limits.ts';
import type { Budget, SdsLimits } from './limits.ts';

export interface Occupancy {
  /** Throws RATE_LIMITED. Returns how to leave, once. */
  enter(identity: string): () => void;
}

interface Place {
  open: number;
  readonly budget: Budget;
  forgetting: boolean;
}

/** How many streams each identity has open, and how fast it opens them. */
export function createOccupancy(clock: Clock, heap: DeadlineHeap, limits: SdsLimits): Occupancy {
  const places = new Map<string, Place>();
  const burst = limits.maxStreamsPerIdentity;
  const perSecond = limits.streamsPerSecondPerIdentity;

  function forgetOnceRefilled(identity: string, place: Place): void {
    if (place.forgetting) return;
    place.forgetting = true;
    heap.at(clock.now() + ((burst - place.budget.tokens) / perSecond) * 1000, () => {
      place.forgetting = false;
      if (place.open === 0) places.delete(identity);
    });
  }

  return {
    enter(identity) {
      let place = places.get(identity);
      if (!place) {
        place = { open: 0, budget: { tokens: burst, at: clock.now() }, forgetting: false };
        places.set(identity, place);
      }
      const here = place;
      if (here.open >= limits.maxStreamsPerIdentity) throw new SignetError('RATE_LIMITED', 'too many streams of this identity are open');
      if (!spend(here.budget, 1, perSecond, burst, clock.now()))
        throw new SignetError('RATE_LIMITED', 'this identity opens streams too fast', { retryAfterMs: 1000 / perSecond });
      here.open++;
      let left = false;
      return () => {
        if (left) return;
        left = true;
        here.open--;
        if (here.open === 0) forgetOnceRefilled(identity, here);
      };
    },
  };
}
