/** Names under /signet/ are the control plane's own (its serving certificate): nothing can grant one to a workload. */
export function isReservedPath(path: string): boolean {
  return path === '/signet' || path.startsWith('/signet/');
}
