/**
 * Drops from memory the index entries that nobody will ask for again: those that every configured consumer group
 * acknowledged in the log. Only replicated acknowledgements count, so a replica that becomes master still knows
 * everything that it may have to hand out again.
 */
import { cursor_none, type QueueCursors } from './cursors.js';
import type { QueueState } from './state_machine.js';

/** What one run of `trimQueues` did. */
export interface TrimResult {
  readonly trimmed_items: number;
  /** Queues that keep everything because no consumer group is configured for them. */
  readonly unclaimed_queues: number;
}

/**
 * Trims all queues. `groupsOf` names the consumer groups configured for a queue; a queue without any (removed from the
 * configuration while items remain) keeps its items. `kept_items_min` consumed items stay per queue, for replays.
 */
export function trimQueues(
  queues: Iterable<QueueState>,
  groupsOf: (queue_id: number) => readonly number[],
  kept_items_min: number,
): TrimResult {
  let trimmed_items = 0;
  let unclaimed_queues = 0;
  for (const queue of queues) {
    if (queue.index.items === 0) continue;
    const groups = groupsOf(queue.queue_id);
    if (groups.length === 0) {
      unclaimed_queues += 1;
      continue;
    }
    trimmed_items += queue.index.trim(acknowledgedByAll(queue.cursors, groups), kept_items_min);
  }
  return { trimmed_items, unclaimed_queues };
}

/** The cursor up to which all of `groups` acknowledged; none if one of them never did. */
export function acknowledgedByAll(cursors: QueueCursors, groups: readonly number[]): number {
  let lowest = Number.POSITIVE_INFINITY;
  for (const group of groups) lowest = Math.min(lowest, cursors.of(group).replicated_prev);
  return Number.isFinite(lowest) ? lowest : cursor_none;
}
