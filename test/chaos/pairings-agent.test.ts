import { describePairings } from '../support/pairings-story.ts';

describePairings('agent');
