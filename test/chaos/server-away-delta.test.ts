import { describeServerAway } from '../support/server-away-story.ts';

describeServerAway('csr-web', 'delta');
