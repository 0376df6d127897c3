import { describePairings } from '../support/pairings-story.ts';

describePairings('google-grpc-token');
