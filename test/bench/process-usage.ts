import { readFileSync } from 'node:fs';

/** The kernel counts CPU time in ticks of 10 ms. */
const tickMs = 10;

export interface Usage {
  /** User and system time, in ms. */
  readonly cpuMs: number;
  readonly residentKiB: number;
}

export function processUsage(pid: number): Usage {
  const stat = readFileSync(`/proc/${String(pid)}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const status = readFileSync(`/proc/${String(pid)}/status`, 'utf8');
  return {
    cpuMs: (Number(fields[11]) + Number(fields[12])) * tickMs,
    residentKiB: Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? Number.NaN),
  };
}

/** Busy CPU time of the whole machine since boot, in ms: what neither server nor client used is other load. */
export function machineBusyMs(): number {
  const [user, nice, system, , , irq, softirq] = (readFileSync('/proc/stat', 'utf8').split('\n')[0] ?? '')
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return ((user ?? 0) + (nice ?? 0) + (system ?? 0) + (irq ?? 0) + (softirq ?? 0)) * tickMs;
}

/** The value below which a share of them lie; NaN of none. */
export function percentile(sorted: ArrayLike<number>, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}
