import type { z } from 'zod';
import { isRecord, knownKeys, schemaAt, valueAt } from './schema-path.ts';
import type { ConfigPath } from './schema-path.ts';
import { suggest } from './suggest.ts';

export interface ConfigProblem {
  /** FILE:LINE:COLUMN, the environment variable, or the flag. */
  readonly where: string;
  /** `listen.grpc`; empty where the text as a whole is at fault. */
  readonly path: string;
  readonly message: string;
  readonly hint: string | undefined;
}

/** Before it is known where the setting comes from. */
export interface Finding {
  readonly path: ConfigPath;
  readonly message: string;
  readonly hint?: string | undefined;
  /** The key itself is at fault, not its value. */
  readonly atKey?: boolean;
}

export function formatProblem(problem: ConfigProblem): string {
  const subject = problem.path === '' ? '' : `${problem.path}: `;
  return `${problem.where}: ${subject}${problem.message}${problem.hint ? ` (${problem.hint})` : ''}`;
}

function kindOf(value: unknown): string {
  if (value === null) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a group of settings';
  if (typeof value === 'boolean') return 'true or false';
  return `a ${typeof value}`;
}

const expectedNames: Readonly<Record<string, string>> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a group of settings',
  record: 'a group of settings',
};

type Issue = z.core.$ZodIssue;
type Schema = z.core.JSONSchema.BaseSchema;

/** What zod found, in words for the one who wrote the file. Values are never quoted: they could be secrets in the wrong place. */
export function findingsOf(issues: readonly Issue[], input: unknown, root: Schema): Finding[] {
  return issues.flatMap((issue) => {
    const path: ConfigPath = issue.path.map((part) => (typeof part === 'number' ? part : String(part)));
    return findingsOfIssue(issue, path, valueAt(input, path), input, root);
  });
}

function findingsOfIssue(issue: Issue, path: ConfigPath, value: unknown, input: unknown, root: Schema): Finding[] {
  const schema = schemaAt(root, path, input);
  if (issue.code === 'unrecognized_keys') {
    const known = schema ? knownKeys(schema, value) : [];
    return issue.keys.map((key) => ({
      path: [...path, key],
      message: 'there is no such setting',
      hint: didYouMean(key, known, 'known here: '),
      atKey: true,
    }));
  }
  if (value === undefined && (issue.code === 'invalid_type' || issue.code === 'invalid_value'))
    return [{ path, message: 'is required', hint: describe(schema) }];
  if (issue.code === 'invalid_type') {
    const expected = expectedNames[issue.expected] ?? issue.expected;
    if (value === null) return [{ path, message: `is empty, but must be ${expected}`, hint: 'give it a value or take the key out' }];
    const hint =
      schema?.format === 'duration' && typeof value === 'number'
        ? 'a duration needs a unit: write for example 20s, 10m, 12h or 7d'
        : undefined;
    return [{ path, message: `must be ${expected}, but is ${kindOf(value)}`, hint }];
  }
  if (issue.code === 'invalid_union') return [unionFinding(path, value, root)];
  if (issue.code === 'invalid_value') {
    const values = issue.values.map(String);
    const meant = typeof value === 'string' ? suggest(value, values) : undefined;
    return [{ path, message: `must be one of ${values.join(', ')}`, hint: meant === undefined ? undefined : `did you mean "${meant}"?` }];
  }
  if (issue.code === 'invalid_key')
    return [{ path, message: `a name ${issue.issues[0]?.message ?? 'of another form is needed'}`, atKey: true }];
  if (issue.code === 'too_small') {
    return [
      { path, message: issue.origin === 'array' || issue.origin === 'string' ? 'is empty' : `must be at least ${String(issue.minimum)}` },
    ];
  }
  if (issue.code === 'too_big') {
    const most = String(issue.maximum);
    return [
      {
        path,
        message:
          issue.origin === 'array'
            ? `has more than ${most} items`
            : issue.origin === 'string'
              ? `is longer than ${most} characters`
              : `must be at most ${most}`,
      },
    ];
  }
  return [{ path, message: issue.message }];
}

/** A tagged union whose `type` (the path's end) is missing or unknown. */
function unionFinding(path: ConfigPath, given: unknown, root: Schema): Finding {
  const options = schemaAt(root, path.slice(0, -1), undefined)?.oneOf ?? [];
  const types = options.flatMap((option) =>
    isRecord(option) && isRecord(option.properties) && isRecord(option.properties.type) ? [String(option.properties.type.const)] : [],
  );
  if (typeof given !== 'string') return { path, message: 'is required', hint: `one of ${types.join(', ')}` };
  return { path, message: 'there is no such type', hint: didYouMean(given, types, 'one of ') };
}

function didYouMean(word: string, known: readonly string[], otherwise: string): string {
  const meant = suggest(word, known);
  return meant === undefined ? `${otherwise}${known.join(', ')}` : `did you mean "${meant}"?`;
}

function describe(schema: Schema | undefined): string | undefined {
  // The first sentence of its description says what the setting is.
  return schema?.description?.split(/(?<=\.)\s/)[0]?.replace(/\.$/, '');
}
