import { collectDefaultMetrics, Registry } from 'prom-client';

/** How often the delay of the event loop is sampled, in milliseconds; each sample wakes the process. */
const LOOP_SAMPLE_MS = 100;

/** A registry with the figures of the process (CPU, memory, event loop, open files); a server adds its own. */
export function processMetrics(): Registry {
  const register = new Registry();
  collectDefaultMetrics({ register, eventLoopMonitoringPrecision: LOOP_SAMPLE_MS });
  return register;
}
