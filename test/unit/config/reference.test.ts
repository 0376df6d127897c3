import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { agentPage, renderPage, serverPage } from '../../../scripts/config-reference.ts';
import { checkConfig } from '../../../src/server/config/load.ts';
import { checkAgentConfig } from '../../../src/agent/config/load.ts';
import { agentConfigJsonSchema } from '../../../src/agent/config/schema.ts';
import { configJsonSchema } from '../../../src/server/config/schema.ts';

describe('the reference of the configuration', () => {
  it('has every setting, as the schema has it now', async () => {
    for (const page of [serverPage, agentPage])
      assert.equal(await readFile(page.file, 'utf8'), await renderPage(page), 'run: npx node scripts/config-reference.ts');
  });

  it('shows an example that is right', async () => {
    const yaml = /```yaml\n([^]*?)```/.exec(await readFile(serverPage.file, 'utf8'))?.[1] ?? '';
    const folder = await mkdtemp(join(tmpdir(), 'signet-config-'));
    const file = join(folder, 'signet.yaml');
    await writeFile(file, yaml);
    const { problems, config } = await checkConfig({ file, env: {} });
    await rm(folder, { recursive: true });
    assert.deepEqual(problems, []);
    assert.equal(config?.identity.issuers.length, 2);
  });

  it("shows an agent's example that is right", async () => {
    const yaml = /```yaml\n([^]*?)```/.exec(await readFile(agentPage.file, 'utf8'))?.[1] ?? '';
    const folder = await mkdtemp(join(tmpdir(), 'signet-config-'));
    const file = join(folder, 'agent.yaml');
    await writeFile(file, yaml);
    const { problems, config } = await checkAgentConfig({ file, env: {} });
    await rm(folder, { recursive: true });
    assert.deepEqual(problems, []);
    assert.equal(config?.workloads.length, 2);
  });
});

it('the JSON schemas are closed at every level: no group takes keys that it does not name', () => {
  const open: string[] = [];
  const visit = (schema: unknown, path: string): void => {
    if (typeof schema !== 'object' || schema === null) return;
    const node = schema as Record<string, unknown>;
    if ('properties' in node && node.additionalProperties !== false) open.push(path);
    for (const [key, value] of Object.entries(node)) visit(value, `${path}/${key}`);
  };
  visit(configJsonSchema(), '');
  visit(agentConfigJsonSchema(), 'agent');
  assert.deepEqual(open, []);
});
