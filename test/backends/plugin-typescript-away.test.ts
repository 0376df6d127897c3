import { fileURLToPath } from 'node:url';
import { describeAuthorityAway } from '../support/authority-away-story.ts';
import { awayPlugin } from '../support/away-plugin.ts';

const main = fileURLToPath(new URL('../../examples/plugins/typescript/src/main.ts', import.meta.url));

describeAuthorityAway('plugin-typescript', () => awayPlugin([process.execPath, main]));
