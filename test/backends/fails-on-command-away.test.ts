/** The built-in CA with something before it that fails on command: the story itself, without anybody's engine. */
import { describeAuthorityAway } from '../support/authority-away-story.ts';

describeAuthorityAway('fails-on-command', () =>
  Promise.resolve({
    settings: { type: 'builtin' },
    mesh: { outages: true },
    stop: (mesh) => mesh.signet.authority('fails'),
    start: (mesh) => mesh.signet.authority('works'),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  }),
);
