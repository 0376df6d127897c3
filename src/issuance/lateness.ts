/** Renewals are due between 40 and 60 % of a life (rotation/leaf-renewal.ts): beyond this share, tries must have failed. */
const lateShare = 0.7;

/** Whether the renewal of a certificate in use is late: for the metric that alerts long before the end, and for whom it is worth more than usual. */
export function isLate(certificate: { readonly issuedAt: number; readonly notAfter: number }, now: number): boolean {
  const { issuedAt, notAfter } = certificate;
  return now > issuedAt + lateShare * Math.max(0, notAfter - issuedAt);
}
