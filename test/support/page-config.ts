import { parse } from 'yaml';
import type { ConfigInput } from '../../src/server/config/schema.ts';
import { createCsr } from '../../src/x509/csr.ts';
import { generateKeyPair } from '../../src/x509/keys.ts';
import { pageSnippets } from './page-snippets.ts';
import { web, wholeServer } from './whole-server.ts';
import type { WholeServer } from './whole-server.ts';

/**
 * The YAML of a how-to page's section with what is particular to this machine put in: what people are told is what is
 * tested. Each text to be replaced must be there.
 */
export async function pageConfig(
  page: string,
  section: string,
  replace: Readonly<Record<string, string>>,
  block = 0,
): Promise<Partial<ConfigInput>> {
  let yaml = (await pageSnippets(page, section, 'yaml'))[block] ?? '';
  for (const [told, here] of Object.entries(replace)) {
    if (!yaml.includes(told)) throw new Error(`${page} does not say ${told}`);
    yaml = yaml.replaceAll(told, here);
  }
  return parse(yaml) as Partial<ConfigInput>;
}

export interface SignedOverApi {
  readonly chain: readonly [Buffer, ...Buffer[]];
  readonly anchors: readonly Buffer[];
}

/** A certificate for a new key of the pod `web`, asked for as any workload does; with these names in its request. */
export async function signOverApi(
  { doors, folder }: Pick<WholeServer, 'doors' | 'folder'>,
  names: readonly string[] = [],
): Promise<SignedOverApi> {
  return (await doors.workload.call('SignCertificate', { csr: createCsr(generateKeyPair(), names) }, folder.bearer(web))) as SignedOverApi;
}

/** One certificate from a whole server with this configuration. */
export async function signedUnder(config: Partial<ConfigInput>, names: readonly string[] = []): Promise<SignedOverApi> {
  await using whole = await wholeServer(config);
  return await signOverApi(whole, names);
}
