import { describeServerAway } from '../support/server-away-story.ts';

describeServerAway('web', 'sotw');
