import { readFile, stat } from 'node:fs/promises';
import { isMap, isScalar, isSeq, LineCounter, parse, parseDocument, type Node } from 'yaml';
import { SignetError } from '../base/errors.ts';
import type { ConfigPath } from './schema-path.ts';
import type { ConfigProblem } from './problems.ts';

const largestFile = 1024 * 1024;

export interface ConfigFile {
  readonly file: string;
  readonly value: unknown;
  readonly problems: readonly ConfigProblem[];
  /** Where a setting is written, as FILE:LINE:COLUMN; of its key if asked, and of what holds it if it isn't there. */
  locate(path: ConfigPath, key?: boolean): string;
}

/** Throws CONFIG_INVALID if the file can't be read at all; what is wrong inside it comes as problems. */
export async function readConfigFile(file: string): Promise<ConfigFile> {
  let text: string;
  try {
    const { size } = await stat(file);
    if (size > largestFile) throw new SignetError('CONFIG_INVALID', `${file} is larger than 1 MiB: this is no configuration`);
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (error instanceof SignetError) throw error;
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
    const why = code === 'ENOENT' ? 'there is no such file' : code === 'EACCES' ? 'no permission to read it' : code;
    throw new SignetError('CONFIG_INVALID', `can't read the configuration ${file}: ${why}`, { cause: error });
  }
  return parseConfigText(file, text);
}

/** A list or group written in one line, from the environment. Throws what the parser throws. */
export function parseFlow(text: string): unknown {
  return parse(text, { maxAliasCount: 0, prettyErrors: false }) as unknown;
}

export function parseConfigText(file: string, text: string): ConfigFile {
  const lines = new LineCounter();
  // prettyErrors off: its messages quote the file, and what is quoted could be somebody's secret.
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true, stringKeys: true });
  const where = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${String(line)}:${String(col)}`;
  };
  const problems: ConfigProblem[] = [...document.errors, ...document.warnings].map((error) => ({
    where: where(error.pos[0]),
    path: '',
    message: `not valid YAML: ${error.message.split('\n')[0] ?? error.code}`,
    hint: error.code === 'DUPLICATE_KEY' ? 'a key may stand only once' : error.code === 'TAB_AS_INDENT' ? 'indent with spaces' : undefined,
  }));
  let value: unknown;
  if (problems.length === 0) {
    try {
      // The cap on aliases keeps "a billion laughs" from being told.
      value = document.toJS({ maxAliasCount: 100 });
    } catch {
      problems.push({ where: where(0), path: '', message: 'not valid YAML: its aliases expand to too much', hint: undefined });
    }
  }

  return {
    file,
    value: value ?? {},
    problems,
    locate(path, key = false) {
      let node: Node | null = document.contents;
      let offset = node?.range?.[0] ?? 0;
      for (const [i, part] of path.entries()) {
        if (isMap(node)) {
          const pair = node.items.find((item) => isScalar(item.key) && item.key.value === part);
          if (!pair || !isScalar(pair.key)) break;
          const keyOffset = pair.key.range?.[0] ?? offset;
          node = (pair.value ?? null) as Node | null;
          offset = key && i === path.length - 1 ? keyOffset : isScalar(node) ? (node.range?.[0] ?? keyOffset) : keyOffset;
        } else if (isSeq(node) && typeof part === 'number') {
          const item = node.items[part] as Node | undefined;
          if (!item) break;
          node = item;
          offset = item.range?.[0] ?? offset;
        } else break;
      }
      return where(offset);
    },
  };
}
