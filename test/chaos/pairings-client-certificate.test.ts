import { describePairings } from '../support/pairings-story.ts';

describePairings('client-certificate');
