import { readGlobalConfig } from './global_config.js';
import { StrictReporter } from './report.js';

/** What a check found. Configuration is fine if there are no errors. */
export interface CheckResult {
  /** One line each: `file: key: what is wrong; what to do`. */
  readonly errors: readonly string[];
  /** Legal, but probably not meant. */
  readonly warnings: readonly string[];
  /** What was looked at, one line for each topic. */
  readonly checked: readonly string[];
}

/**
 * Checks a global configuration file and all files that it names, and finds all problems at once. Stricter than a running
 * program: unknown keys, ids given twice and rules about things that are not there are errors. Never throws.
 */
export function checkConfig(path: string, base?: string): CheckResult {
  const report = new StrictReporter();
  const config = readGlobalConfig(path, base, report);
  const checked = config.topics.map(({ info, topic, stores, consumers, locks, scheduler }) => {
    const queues = topic.queue_infos.reduce((sum, { queue_info_id }) => sum + topic.queuesOf(queue_info_id).length, 0);
    const counts = [
      [topic.pubs.length, 'pubs'],
      [topic.consumer_groups.length, 'consumer groups'],
      [topic.queue_infos.length, 'queue_infos'],
      [queues, 'queues'],
      [stores.length, 'stores'],
      [consumers.length, 'consumers'],
      [locks.length, 'locks'],
      [scheduler.addrs.length, 'schedulers'],
    ];
    return `topic ${info.topic_id} "${info.topic_name}": ${counts.map((pair) => pair.join(' ')).join(', ')}`;
  });
  return { errors: report.errors, warnings: report.warnings, checked };
}
