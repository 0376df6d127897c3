import { describeServerAwayFromAgent } from '../support/agent-server-away-story.ts';

describeServerAwayFromAgent('sotw');
