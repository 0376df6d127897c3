import { describePairings } from '../support/pairings-story.ts';

describePairings('envoy-grpc-token');
