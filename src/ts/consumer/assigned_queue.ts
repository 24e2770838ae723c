/** One (group, store, queue) that a consumer serves. */
export interface AssignedQueue {
  readonly consumer_group_id: number;
  readonly store_id: number;
  readonly queue_id: number;
}

/** A text that names the queue, unique within a topic. */
export function queueKey({ consumer_group_id, store_id, queue_id }: AssignedQueue): string {
  return `${consumer_group_id}/${store_id}/${queue_id}`;
}

/** Levels of lines for the consumer's log. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** Takes a line for the consumer's log. */
export type Log = (level: LogLevel, line: string) => void;
