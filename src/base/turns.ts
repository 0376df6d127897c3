/**
 * A burst, shared out over turns of the event loop: what else is due (a push, a deadline, the answer to somebody else)
 * waits for a few of it instead of for all.
 */
export interface Turns {
  /** Undefined to go on at once; else resolves in a later turn, in the order in which they came but for who is `urgent`. */
  enter(urgent: boolean): Promise<void> | undefined;
}

/** At most `perTurn` go on in each turn of the event loop. How many may wait is the caller's to bound. */
export function createTurns(perTurn: number): Turns {
  const urgentOnes: (() => void)[] = [];
  const others: (() => void)[] = [];
  /** Who has gone on in this turn. Not 0: then the next one is on its way. */
  let entered = 0;

  function nextTurn(): void {
    const going = urgentOnes.splice(0, perTurn);
    going.push(...others.splice(0, perTurn - going.length));
    entered = going.length;
    if (entered > 0) setImmediate(nextTurn);
    for (const go of going) go();
  }

  return {
    enter(urgent) {
      if (entered === 0) setImmediate(nextTurn);
      if (entered < perTurn) {
        entered++;
        return undefined;
      }
      return new Promise((resolve) => (urgent ? urgentOnes : others).push(resolve));
    },
  };
}
