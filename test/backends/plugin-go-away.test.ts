import { describeAuthorityAway } from '../support/authority-away-story.ts';
import { awayPlugin } from '../support/away-plugin.ts';
import { goPlugin } from '../support/go-plugin.ts';

describeAuthorityAway('plugin-go', async () => awayPlugin([await goPlugin()]));
