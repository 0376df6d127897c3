/** What is wrong with a resource's name of this form (`projects/P/locations/L/caPools/N`), or undefined. */
export function resourceNameProblem(form: string, text: string): string | undefined {
  const wanted = form.split('/');
  const given = text.split('/');
  // The capitals stand for what the operator fills in. None of it may lead elsewhere in a URL.
  const fits = wanted.length === given.length && wanted.every((part, at) => (isPlace(part) ? isSegment(given[at]) : part === given[at]));
  return fits ? undefined : `must be ${form}`;
}

function isPlace(part: string): boolean {
  return /^[A-Z]+$/.test(part);
}

function isSegment(text: string | undefined): boolean {
  return text !== undefined && /^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$/.test(text);
}
