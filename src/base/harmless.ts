/**
 * Text from elsewhere (a node's id, a reason) without what a terminal would obey: control characters, escape sequences
 * and the marks that reverse the direction of writing.
 */
export function harmless(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cs}]/gu, '\u{fffd}');
}
