/** Get: acknowledges what the client handled, hands out the items that follow, and remembers where it stopped. */
import { PhxError } from '../errors.js';
import type { ReplicatedLog } from '../paxos/replicated_log.js';
import type { GetRequest } from '../protocol/messages.js';
import { RetCode } from '../protocol/ret_code.js';
import { checkDestination, checkMaster, type Refusal, refusal } from './admission.js';
import { type CursorPair, consumer_group_max, cursorFromWire } from './cursors.js';
import { type FoundItem, type Moment, readQueue } from './read_queue.js';
import { groupOfQueue, type QueueState, type StoreStateMachine } from './state_machine.js';
import type { StoreView } from './store_view.js';

/** What `getItems` needs. */
export interface GetDependencies {
  readonly view: StoreView;
  readonly log: ReplicatedLog;
  readonly machine: StoreStateMachine;
  /** Monotonic clock. */
  readonly now_ms: () => number;
  /** A consumer group's acknowledged cursor is ahead of the replicated one. */
  readonly onAcknowledged: (group: number, queue_id: number, consumer_group: number) => void;
  /** A value could not be read. */
  readonly onUnreadable: (queue: QueueState, error: PhxError) => void;
}

/** A Get that was done. */
export interface Got {
  readonly code: typeof RetCode.OK;
  readonly items: readonly FoundItem[];
  readonly cursors: CursorPair;
  readonly skipped_items: number;
}

/** Answers a Get. Cursors move only if it succeeds. */
export async function getItems(request: GetRequest, dependencies: GetDependencies): Promise<Got | Refusal> {
  const { view, log, machine } = dependencies;
  const { queue_id, consumer_group_id } = request;
  const refused = checkDestination(view, request);
  if (refused !== null) return refused;
  const group = groupOfQueue(queue_id, log.groups);
  const elsewhere = checkMaster(view, log, group);
  if (elsewhere !== null) return elsewhere;
  if (consumer_group_id < 1 || consumer_group_id > consumer_group_max) {
    return refusal(RetCode.GET_ADJUST_CURSOR_ID_FAIL);
  }

  const queue = machine.ensureQueue(queue_id);
  const asked = { prev: cursorFromWire(request.prev_cursor_id), next: cursorFromWire(request.next_cursor_id) };
  const start = request.random
    ? queue.cursors.reconcileRandom(consumer_group_id, asked)
    : queue.cursors.reconcile(consumer_group_id, asked);
  const read = await readOrNull(request, queue, start, dependencies);
  if (read === null) return refusal(RetCode.GET_ITEM_BY_CURSOR_ID);

  // While values were read, or while this process stood still, another replica may have become master.
  const lost = checkMaster(view, log, group);
  if (lost !== null) return lost;
  if (!request.random && queue.cursors.commit(consumer_group_id, read.end)) {
    dependencies.onAcknowledged(group, queue_id, consumer_group_id);
  }
  return { code: RetCode.OK, items: read.items, cursors: read.end, skipped_items: read.skipped_items };
}

async function readOrNull(request: GetRequest, queue: QueueState, start: CursorPair, dependencies: GetDependencies) {
  const { view, log, now_ms } = dependencies;
  const { consumer_group_id } = request;
  const deadline_ms = now_ms() + view.get_loop_max_time_ms;
  const mask_bit = 1n << BigInt(consumer_group_id - 1);
  try {
    return await readQueue(queue.index, {
      start,
      items_max: request.limit,
      bytes_max: view.items_byte_size_limit,
      youngest: youngestOf(request),
      wants: (item) =>
        (item.consumer_group_ids & mask_bit) !== 0n && !view.skips(item, queue.queue_id, consumer_group_id),
      value: (instance) => log.value(queue.group, instance),
      expired: () => now_ms() > deadline_ms,
    });
  } catch (error) {
    if (!(error instanceof PhxError)) throw error;
    dependencies.onUnreadable(queue, error);
    return null;
  }
}

function youngestOf(request: GetRequest): Moment | null {
  const seconds = Number(request.atime);
  return seconds === 0 ? null : { seconds, milliseconds: request.atime_ms };
}
