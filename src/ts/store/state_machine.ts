/**
 * The replicated state of a store: for each queue the index of its items and the acknowledged cursors. Every replica
 * applies the same commands in the same order, so nothing here may depend on a clock, on configuration or on chance.
 *
 * Invariant: within a Paxos group items are numbered from 1 in the order of the log; that number is the item's cursor.
 */
import { assert } from '../errors.js';
import type { Command, StateMachine } from '../paxos/replicated_log.js';
import { scanAddRequest } from '../protocol/add_request.js';
import { type AddCommand, CommandKind, type CursorsCommand, decodeCommand } from './command.js';
import { QueueCursors } from './cursors.js';
import { QueueIndex } from './queue_index.js';

/** What applying an ADD gives to its proposer. */
export interface AddResult {
  /** Cursor of the first item; the others follow without a gap. */
  readonly first_cursor: number;
  readonly items: number;
}

/** One queue. */
export interface QueueState {
  readonly queue_id: number;
  readonly group: number;
  readonly index: QueueIndex;
  readonly cursors: QueueCursors;
  /** Items and bytes of items ever added. */
  added_items: number;
  added_bytes: number;
}

/** Paxos group that a queue belongs to. */
export function groupOfQueue(queue_id: number, groups: number): number {
  return queue_id % groups;
}

/** See the head of this file. */
export class StoreStateMachine implements StateMachine {
  readonly #groups: number;
  readonly #queues = new Map<number, QueueState>();
  /** Per Paxos group, the cursor of its newest item. */
  readonly #last_cursors: number[];

  constructor(groups: number) {
    this.#groups = groups;
    this.#last_cursors = new Array<number>(groups).fill(0);
  }

  /** Applies the commands of one instance. The result of an ADD is an `AddResult`, that of CURSORS null. */
  apply(group: number, instance: number, commands: readonly Command[]): readonly (AddResult | null)[] {
    return commands.map(({ bytes, offset }) => {
      const command = decodeCommand(bytes);
      if (command.kind === CommandKind.add) return this.#add(group, instance, offset, command);
      return this.#raiseCursors(group, command);
    });
  }

  /** State of a queue; undefined if no command ever named it. */
  queue(queue_id: number): QueueState | undefined {
    return this.#queues.get(queue_id);
  }

  /** State of a queue, made if missing. An empty one does not differ from a missing one. */
  ensureQueue(queue_id: number): QueueState {
    let queue = this.#queues.get(queue_id);
    if (queue === undefined) {
      const group = groupOfQueue(queue_id, this.#groups);
      const index = new QueueIndex();
      queue = { queue_id, group, index, cursors: new QueueCursors(), added_items: 0, added_bytes: 0 };
      this.#queues.set(queue_id, queue);
    }
    return queue;
  }

  /** All queues that a command or a Get named. */
  queues(): Iterable<QueueState> {
    return this.#queues.values();
  }

  /** Cursor of the newest item of a Paxos group, 0 if none. */
  lastCursor(group: number): number {
    return this.#last_cursors[group] ?? 0;
  }

  #add(group: number, instance: number, offset: number, command: AddCommand): AddResult {
    // The proposer scanned these very bytes before: if they do not parse here, programs differ, and the replica stops.
    const request = scanAddRequest(command.body);
    // Whether the queue is configured was the proposer's business: configurations may differ between replicas.
    const queue = this.#queueOf(group, request.queue_id);
    const body_offset = offset + command.body_offset;
    const first_cursor = this.lastCursor(group) + 1;
    let cursor = first_cursor;
    for (const item of request.items) {
      queue.index.append(cursor, instance, body_offset + item.start, item.end - item.start);
      queue.added_bytes += item.end - item.start;
      cursor += 1;
    }
    const items = cursor - first_cursor;
    queue.added_items += items;
    this.#last_cursors[group] = cursor - 1;
    return { first_cursor, items };
  }

  #raiseCursors(group: number, command: CursorsCommand): null {
    for (const { queue_id, consumer_group, prev } of command.updates) {
      assert(prev <= this.lastCursor(group), 'nobody acknowledges an item that is not there');
      this.#queueOf(group, queue_id).cursors.applyPrev(consumer_group, prev);
    }
    return null;
  }

  #queueOf(group: number, queue_id: number): QueueState {
    assert(groupOfQueue(queue_id, this.#groups) === group, `queue ${queue_id} does not belong to group ${group}`);
    return this.ensureQueue(queue_id);
  }
}
