import { readFile } from 'node:fs/promises';

/** The blocks of a language in a section of a page of `docs/how-to`: what people are told is what is tested. */
export async function pageSnippets(page: string, section: string, language: string): Promise<string[]> {
  const whole = await readFile(new URL(`../../docs/how-to/${page}`, import.meta.url), 'utf8');
  const text = whole.split(/^## /m).find((part) => part.startsWith(`${section}\n`)) ?? '';
  return [...text.matchAll(/^```(\w+)\n([^]*?)^```/gm)].filter(([, lang]) => lang === language).map(([, , body = '']) => body);
}
