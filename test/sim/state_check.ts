/** What must hold of the state machines: cursors that are never given twice, and equal states of all replicas. */
import { createHash } from 'node:crypto';
import type { AddResult, StoreStateMachine } from '../../src/ts/store/state_machine.js';
import { Violation } from './checker.js';

/** The cursors of one group, as its clients see them. */
export class CursorCheck {
  readonly #now: () => number;
  readonly #given = new Set<number>();
  readonly #began = new Map<number, number>();
  /** Highest cursor that a client knows of. */
  highest = 0;

  constructor(now: () => number) {
    this.#now = now;
  }

  proposing(id: number): void {
    this.#began.set(id, this.highest);
  }

  /** Unique, and above all that were acknowledged before the proposal began. */
  acknowledge(id: number, { first_cursor, items }: AddResult): void {
    const before = this.#began.get(id) ?? 0;
    this.#require(first_cursor > before, `proposal ${id} got cursor ${first_cursor}, after ${before}`);
    for (let cursor = first_cursor; cursor < first_cursor + items; cursor += 1) {
      this.#require(!this.#given.has(cursor), `cursor ${cursor} was given twice`);
      this.#given.add(cursor);
    }
    this.highest = Math.max(this.highest, first_cursor + items - 1);
  }

  #require(holds: boolean, what: string): void {
    if (!holds) throw new Violation(this.#now(), what);
  }
}

/** Hash of all that is replicated. */
export function stateHash(machine: StoreStateMachine, groups: number): string {
  const hash = createHash('sha256');
  for (let group = 0; group < groups; group += 1) hash.update(`group ${group} ${machine.lastCursor(group)}\n`);
  const queues = [...machine.queues()].sort((a, b) => a.queue_id - b.queue_id);
  for (const { queue_id, index, cursors, added_items, added_bytes } of queues) {
    hash.update(`queue ${queue_id} ${added_items} ${added_bytes}\n`);
    for (const { cursor, instance, offset, item_bytes } of index.after(0, index.items, Number.POSITIVE_INFINITY)) {
      hash.update(`${cursor} ${instance} ${offset} ${item_bytes}\n`);
    }
    const acknowledged = [...cursors.entries()].sort(([a], [b]) => a - b);
    for (const [consumer_group, { replicated_prev }] of acknowledged)
      hash.update(`${consumer_group} ${replicated_prev}\n`);
  }
  return hash.digest('hex');
}
