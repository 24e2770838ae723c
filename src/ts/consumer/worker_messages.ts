/** What a consumer server and its worker processes tell each other. */
import type { AssignedQueue, LogLevel } from './assigned_queue.js';
import type { TallyReport } from './tally.js';

/** What a worker process needs to know once, when it starts. */
export interface WorkerSettings {
  readonly global_config_path: string;
  readonly topic_name: string;
  /** URLs of handler modules by handle_id; each exports the handler as its default export. */
  readonly handler_modules: Readonly<Record<string, string>>;
  readonly dead_letter_path: string;
  /** How many handlers of one queue run at the same time. */
  readonly handlers_concurrent_max: number;
}

/** What the parent tells a worker. */
export type ToWorker =
  | { readonly kind: 'start'; readonly settings: WorkerSettings; readonly queues: readonly AssignedQueue[] }
  | { readonly kind: 'stop'; readonly grace_ms: number };

/** What a worker tells its parent. */
export type FromWorker =
  | { readonly kind: 'ready' }
  | { readonly kind: 'log'; readonly level: LogLevel; readonly line: string }
  | { readonly kind: 'tally'; readonly report: TallyReport }
  | { readonly kind: 'failed'; readonly reason: string };

type Fields = Readonly<Record<string, unknown>>;

function isRecord(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null;
}

function haveNumbers(value: Fields, names: readonly string[]): boolean {
  return names.every((name) => typeof value[name] === 'number');
}

function isListOf<T>(value: unknown, isElement: (element: unknown) => element is T): value is T[] {
  return Array.isArray(value) && value.every(isElement);
}

function isAssignedQueue(value: unknown): value is AssignedQueue {
  return isRecord(value) && haveNumbers(value, ['consumer_group_id', 'store_id', 'queue_id']);
}

function isWorkerSettings(value: unknown): value is WorkerSettings {
  return (
    isRecord(value) &&
    typeof value['global_config_path'] === 'string' &&
    typeof value['topic_name'] === 'string' &&
    typeof value['dead_letter_path'] === 'string' &&
    Number.isInteger(value['handlers_concurrent_max']) &&
    isRecord(value['handler_modules']) &&
    Object.values(value['handler_modules']).every((url) => typeof url === 'string')
  );
}

function isTallyReport(value: unknown): value is TallyReport {
  return (
    isRecord(value) &&
    isRecord(value['counts']) &&
    haveNumbers(value['counts'], ['handled', 'errors', 'retries', 'dead_letters']) &&
    isListOf(value['lags'], isAssignedQueue)
  );
}

/** Tells whether a message that arrived over IPC is one that a worker understands. */
export function isToWorker(value: unknown): value is ToWorker {
  if (!isRecord(value)) return false;
  switch (value['kind']) {
    case 'start':
      return isWorkerSettings(value['settings']) && isListOf(value['queues'], isAssignedQueue);
    case 'stop':
      return typeof value['grace_ms'] === 'number';
    default:
      return false;
  }
}

const LOG_LEVELS: readonly unknown[] = ['debug', 'info', 'warn', 'error'] satisfies LogLevel[];

/** Tells whether a message that arrived over IPC is one that a parent understands. */
export function isFromWorker(value: unknown): value is FromWorker {
  if (!isRecord(value)) return false;
  switch (value['kind']) {
    case 'ready':
      return true;
    case 'log':
      return LOG_LEVELS.includes(value['level']) && typeof value['line'] === 'string';
    case 'failed':
      return typeof value['reason'] === 'string';
    case 'tally':
      return isTallyReport(value['report']);
    default:
      return false;
  }
}
