import type { Clock } from '../base/clock.ts';
import { abortable, deadlineSignal } from '../base/deadline.ts';
import { SignetError } from '../base/errors.ts';
import type { Authority } from '../ca/authority.ts';

export interface AuthorityStatus {
  readonly name: string;
  readonly type: string;
  readonly canSign: boolean;
  /** For the operator; no secrets. */
  readonly detail: string;
}

export type Asked = Pick<Authority, 'name' | 'type' | 'health'>;

const timeoutMs = 2000;
const freshMs = 5000;

/** The health of every CA backend, asked at most every 5 s however many are watching; one that doesn't answer can't sign. */
export function createAuthorityHealth(authorities: () => Iterable<Asked>, clock: Clock): () => Promise<readonly AuthorityStatus[]> {
  let askedAt = Number.NEGATIVE_INFINITY;
  let answer: Promise<readonly AuthorityStatus[]> = Promise.resolve([]);
  return () => {
    const now = clock.now();
    if (now < askedAt || now - askedAt >= freshMs) {
      askedAt = now;
      answer = Promise.all([...authorities()].map(ask));
    }
    return answer;
  };
}

async function ask(authority: Asked): Promise<AuthorityStatus> {
  const { name, type } = authority;
  try {
    const signal = deadlineSignal(timeoutMs);
    return { name, type, ...(await abortable(authority.health(signal), signal)) };
  } catch (error) {
    return { name, type, canSign: false, detail: SignetError.from(error).message };
  }
}
