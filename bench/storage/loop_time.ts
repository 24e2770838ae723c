/**
 * What a stretch of work cost the main thread. `loop` is the event loop's own measure (eventLoopUtilization): the time that
 * it did not sit in the kernel waiting for events, so it includes what other threads and processes took from it.
 * `thread_cpu` is the processor time of the main thread (NaN where there is no /proc), `process_cpu` that of all threads.
 */
import { readFileSync } from 'node:fs';
import { type EventLoopUtilization, performance } from 'node:perf_hooks';

export interface LoopTime {
  readonly loop_ns: number;
  readonly thread_cpu_ns: number;
  readonly process_cpu_ns: number;
}

export class LoopClock {
  private readonly loop: EventLoopUtilization = performance.eventLoopUtilization();
  private readonly thread_ns = threadCpuNs();
  private readonly process_us = process.cpuUsage();

  /** Since the clock was made. */
  read(): LoopTime {
    const { user, system } = process.cpuUsage(this.process_us);
    return {
      loop_ns: performance.eventLoopUtilization(this.loop).active * 1e6,
      thread_cpu_ns: threadCpuNs() - this.thread_ns,
      process_cpu_ns: (user + system) * 1000,
    };
  }
}

function threadCpuNs(): number {
  try {
    return Number(readFileSync('/proc/thread-self/schedstat', 'latin1').split(' ')[0]);
  } catch {
    return Number.NaN;
  }
}
