/** One (group, store, queue) that a consumer serves; `pub_id` is the first pub through which it was found. */
export interface AssignedQueue {
  readonly consumer_group_id: number;
  readonly store_id: number;
  readonly queue_id: number;
  readonly pub_id: number;
}

/** What a worker process needs to know once, when it starts. */
export interface WorkerSettings {
  readonly global_config_path: string;
  readonly topic_name: string;
  /** Handler modules by handle_id; each exports the handler as its default export. */
  readonly handler_modules: Readonly<Record<string, string>>;
  readonly dead_letter_path: string;
  /** How many handlers of the worker run at the same time. */
  readonly handlers_concurrent_max: number;
}

/** Levels of the lines that a worker sends to its parent's log. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** What the parent tells a worker. */
export type ToWorker =
  | { readonly kind: 'start'; readonly settings: WorkerSettings; readonly queues: readonly AssignedQueue[] }
  | { readonly kind: 'assign'; readonly queues: readonly AssignedQueue[] }
  | { readonly kind: 'stop'; readonly grace_ms: number };

/** What a worker tells its parent. */
export type FromWorker =
  | { readonly kind: 'ready' }
  | { readonly kind: 'log'; readonly level: LogLevel; readonly line: string }
  | { readonly kind: 'failed'; readonly reason: string };

/** A text that names the queue, unique within a topic. */
export function queueKey(queue: AssignedQueue): string {
  return `${queue.consumer_group_id}/${queue.store_id}/${queue.queue_id}`;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function isAssignedQueue(value: unknown): value is AssignedQueue {
  if (!isRecord(value)) return false;
  return ['consumer_group_id', 'store_id', 'queue_id', 'pub_id'].every((name) => Number.isInteger(value[name]));
}

function isAssignedQueues(value: unknown): value is AssignedQueue[] {
  return Array.isArray(value) && value.every(isAssignedQueue);
}

function isWorkerSettings(value: unknown): value is WorkerSettings {
  return (
    isRecord(value) &&
    typeof value['global_config_path'] === 'string' &&
    typeof value['topic_name'] === 'string' &&
    typeof value['dead_letter_path'] === 'string' &&
    Number.isInteger(value['handlers_concurrent_max']) &&
    isRecord(value['handler_modules']) &&
    Object.values(value['handler_modules']).every((path) => typeof path === 'string')
  );
}

/** Tells whether a message that arrived over IPC is one that a worker understands. */
export function isToWorker(value: unknown): value is ToWorker {
  if (!isRecord(value)) return false;
  switch (value['kind']) {
    case 'start':
      return isWorkerSettings(value['settings']) && isAssignedQueues(value['queues']);
    case 'assign':
      return isAssignedQueues(value['queues']);
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
    default:
      return false;
  }
}
