/** Clients of the simulated store: they add items, acknowledge what they know of, and read values. */
import { PhxError } from '../../src/ts/errors.js';
import { encodeAdd, encodeCursors } from '../../src/ts/store/command.js';
import type { AddResult } from '../../src/ts/store/state_machine.js';
import type { Nemesis } from './nemesis.js';
import type { Replica } from './replica.js';
import type { World } from './world.js';

const QUEUES_PER_GROUP = 3;
export const CONSUMER_GROUPS: readonly number[] = [1, 2];
const BURST = 30;
const BURST_CHANCE = 0.03;
/** Clients that ask the master; the others ask anybody. */
const KNOW_MASTER = 0.8;
const CURSORS_MEAN_MS = 300;

export class Workload {
  readonly #world: World;
  readonly #nemesis: Nemesis;
  #proposals = 0;

  constructor(world: World, nemesis: Nemesis) {
    this.#world = world;
    this.#nemesis = nemesis;
  }

  start(): void {
    const { load } = this.#world.plan;
    this.#repeat(load.propose_mean_ms, () => {
      const burst = this.#world.random.chance(BURST_CHANCE) ? BURST : 1;
      const group = this.#anyGroup();
      const replica = this.#replicaFor(group);
      if (replica === null) return;
      for (let count = 0; count < burst; count += 1) this.#add(replica, group);
    });
    this.#repeat(CURSORS_MEAN_MS, () => this.#raiseCursors());
    this.#repeat(load.read_mean_ms, () => this.#readValue());
  }

  #repeat(mean_ms: number, act: () => void): void {
    this.#world.timeline.after(this.#world.random.wait(mean_ms), () => {
      act();
      this.#repeat(mean_ms, act);
    });
  }

  #anyGroup(): number {
    return this.#world.random.integer(0, this.#world.plan.groups - 1);
  }

  #replicaFor(group: number): Replica | null {
    const { machines, random } = this.#world;
    const master = random.chance(KNOW_MASTER) ? machines.find(({ process }) => process?.isMaster(group)) : undefined;
    return (master ?? random.pick(machines)).process;
  }

  #add(replica: Replica, group: number): void {
    const world = this.#world;
    this.#proposals += 1;
    const id = this.#proposals;
    const queue_id = group + world.plan.groups * world.random.integer(0, QUEUES_PER_GROUP - 1);
    const body = addRequest(queue_id, this.#items());
    world.checker(group).proposing(id);
    world.cursorCheck(group).proposing(id);
    replica.deliver(() => {
      replica.node?.propose(group, encodeAdd(id, body)).then(
        ({ instance, result }) => {
          // What a dead process would have answered nobody hears.
          if (replica.alive) this.#acknowledge(group, id, instance, result);
        },
        (error: unknown) => this.#refused(error),
      );
    });
  }

  #items(): Uint8Array[] {
    const { random, plan } = this.#world;
    return Array.from({ length: random.pick([1, 1, 3]) }, () => {
      return Buffer.alloc(random.integer(1, plan.load.item_bytes_max / 3), random.integer(0, 255));
    });
  }

  #acknowledge(group: number, id: number, instance: number, result: unknown): void {
    const world = this.#world;
    world.guard(() => {
      world.checker(group).acknowledge(id, instance);
      if (isAddResult(result)) world.cursorCheck(group).acknowledge(id, result);
      else world.violation(`an ADD was answered with ${String(result)}`);
    });
    this.#nemesis.acknowledged();
  }

  #refused(error: unknown): void {
    if (error instanceof PhxError) this.#world.sometimes(`refused: ${error.code}`);
    else this.#world.report(error);
  }

  /** A consumer acknowledges items that were acknowledged to their producer. */
  #raiseCursors(): void {
    const world = this.#world;
    const group = this.#anyGroup();
    const replica = this.#replicaFor(group);
    const { highest } = world.cursorCheck(group);
    const keeps_up = world.random.chance(world.plan.load.keeps_up);
    const prev = keeps_up ? highest : world.random.integer(0, highest);
    if (replica === null || prev === 0) return;
    const queues = Array.from({ length: QUEUES_PER_GROUP }, (_, index) => group + world.plan.groups * index);
    const queue = world.random.pick(queues);
    const consumer_group = world.random.pick(CONSUMER_GROUPS);
    const updates = keeps_up
      ? queues.flatMap((queue_id) => CONSUMER_GROUPS.map((each) => ({ queue_id, consumer_group: each, prev })))
      : [{ queue_id: queue, consumer_group, prev }];
    replica.deliver(() => {
      replica.node?.propose(group, encodeCursors(updates)).catch((error: unknown) => this.#refused(error));
    });
  }

  /** Whatever was applied and is retained can be read, from memory or from the log, and is what was chosen. */
  #readValue(): void {
    const world = this.#world;
    const { process } = world.random.pick(world.machines);
    const node = process?.node ?? null;
    const group = this.#anyGroup();
    if (process === null || node === null) return;
    const { first_retained } = node.status(group);
    if (process.appliedThrough(group) < first_retained) return;
    const instance = world.random.integer(first_retained, process.appliedThrough(group));
    process.deliver(() => {
      void this.#checkValue(process, group, instance);
    });
  }

  async #checkValue(replica: Replica, group: number, instance: number): Promise<void> {
    const world = this.#world;
    try {
      const found = replica.node?.value(group, instance);
      if (found instanceof Promise) world.sometimes('a value is read from the log');
      const value = await found;
      if (value === undefined || !replica.alive) return;
      const chosen = world.checker(group).isChosen(instance, value);
      if (!chosen) world.violation(`replica ${replica.id} reads another value at ${instance} than was chosen`);
    } catch (error) {
      if (!replica.alive || (error instanceof PhxError && error.code === 'LOG_CLOSED')) return;
      const truncated = instance < (replica.node?.status(group).first_retained ?? 0);
      if (!replica.damaged && !truncated) world.report(error);
    }
  }
}

function isAddResult(result: unknown): result is AddResult {
  return typeof result === 'object' && result !== null && 'first_cursor' in result;
}

/** The protobuf bytes of an AddRequest: topic 1, store 1, the queue, the items. */
function addRequest(queue_id: number, items: readonly Uint8Array[]): Uint8Array {
  const parts: Uint8Array[] = [Buffer.from([8, 1, 16, 1, 24, queue_id])];
  for (const item of items) {
    parts.push(Buffer.from([0x92, 0x03, 0x80 | (item.length & 0x7f), item.length >> 7]), item);
  }
  return Buffer.concat(parts);
}
