/**
 * The replicated state of a store: for each queue the index of its items and the acknowledged cursors. Every replica
 * applies the same commands in the same order, so nothing here may depend on a clock, on configuration or on chance.
 *
 * Invariant: within a Paxos group items are numbered from 1 in the order of the log; that number is the item's cursor.
 */
import { assert, PhxError } from '../errors.js';
import type { Command, StateMachine } from '../paxos/replicated_log.js';
import { scanAddRequest } from '../protocol/add_request.js';
import { type AddCommand, CommandKind, type CursorsCommand, decodeCommand } from './command.js';
import { QueueCursors } from './cursors.js';
import { QueueIndex } from './queue_index.js';
import {
  decodeRetention,
  decodeSnapshot,
  encodeRetention,
  encodeSnapshot,
  firstItem,
  type GroupRetention,
} from './snapshot.js';

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

/** The state that takes the place of a Paxos group's, once its items were found again. */
interface Reindexing extends GroupRetention {
  readonly queues: ReadonlyMap<number, QueueState>;
  readonly last_cursor: number;
  /** Cursor of the next item of the log, or null before the first item that is kept. */
  next_cursor: number | null;
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
  readonly #queues_of_group: QueueState[][];
  readonly #reindexing = new Map<number, Reindexing>();

  constructor(groups: number) {
    this.#groups = groups;
    this.#queues_of_group = Array.from({ length: groups }, () => []);
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

  snapshot(group: number): Uint8Array[] {
    return [encodeSnapshot(this.#queuesOfGroup(group), this.lastCursor(group))];
  }

  retention(group: number): Uint8Array[] {
    return [encodeRetention(this.#queuesOfGroup(group))];
  }

  firstNeeded(group: number): number {
    return firstItem(this.#queuesOfGroup(group))?.instance ?? Number.POSITIVE_INFINITY;
  }

  restore(group: number, snapshot: Uint8Array, retention: Uint8Array): void {
    const { last_cursor, queues } = decodeSnapshot(snapshot);
    const { first, first_cursors } = decodeRetention(retention);
    const found = new Map<number, QueueState>();
    for (const { queue_id, added_items, added_bytes, last_cursor: newest, cursors } of queues) {
      const oldest = first_cursors.get(queue_id);
      const index = new QueueIndex(oldest === undefined ? newest : oldest - 1);
      const queue = { queue_id, group, index, cursors: new QueueCursors(), added_items, added_bytes };
      for (const [consumer_group, prev] of cursors) queue.cursors.applyPrev(consumer_group, prev);
      found.set(queue_id, queue);
    }
    this.#reindexing.set(group, { first, first_cursors, next_cursor: null, queues: found, last_cursor });
  }

  reindex(group: number, instance: number, commands: readonly Command[]): void {
    const reindexing = this.#reindexing.get(group);
    assert(reindexing !== undefined, 'a group is reindexed after it was restored');
    const { first, first_cursors, queues } = reindexing;
    if (first === null || instance < first.instance) return;
    const adds = commands.flatMap((command) => addsIn(command));
    // Items of its instance that come before the first one kept have lower cursors.
    const items_before = (): number => adds.filter((add) => add.offset < first.offset).length;
    let cursor = reindexing.next_cursor ?? first.cursor - items_before();
    for (const { queue_id, offset, item_bytes } of adds) {
      const oldest = first_cursors.get(queue_id) ?? Number.POSITIVE_INFINITY;
      if (cursor >= oldest) {
        const queue = queues.get(queue_id);
        if (queue === undefined) throw new PhxError('LOG_CORRUPT', `a checkpoint keeps items of no queue ${queue_id}`);
        queue.index.append(cursor, instance, offset, item_bytes);
      }
      cursor += 1;
    }
    reindexing.next_cursor = cursor;
  }

  restored(group: number): void {
    const reindexing = this.#reindexing.get(group);
    assert(reindexing !== undefined, 'a group has its state back after it was restored');
    this.#reindexing.delete(group);
    const { first, next_cursor, last_cursor, queues } = reindexing;
    if (first !== null && next_cursor !== last_cursor + 1) {
      throw new PhxError('LOG_CORRUPT', `group ${group}: the log does not hold the items that its checkpoint counted`);
    }
    for (const { queue_id } of this.#queuesOfGroup(group).splice(0)) this.#queues.delete(queue_id);
    for (const queue of queues.values()) this.#include(queue);
    this.#last_cursors[group] = last_cursor;
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
      this.#include(queue);
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

  #queuesOfGroup(group: number): QueueState[] {
    const queues = this.#queues_of_group[group];
    assert(queues !== undefined, 'the group exists');
    return queues;
  }

  #include(queue: QueueState): void {
    this.#queues.set(queue.queue_id, queue);
    this.#queuesOfGroup(queue.group).push(queue);
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

/** The items of a command, as they lie in the value of its instance. */
function addsIn({ bytes, offset }: Command): { queue_id: number; offset: number; item_bytes: number }[] {
  const command = decodeCommand(bytes);
  if (command.kind !== CommandKind.add) return [];
  const { queue_id, items } = scanAddRequest(command.body);
  const body_offset = offset + command.body_offset;
  return items.map(({ start, end }) => ({ queue_id, offset: body_offset + start, item_bytes: end - start }));
}
