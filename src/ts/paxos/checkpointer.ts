/**
 * Decides when a group gets a new checkpoint and how much of its log stays, and makes them, one group after the other. What
 * the state machine no longer needs is kept for a while all the same: replicas that lag behind catch up from it.
 */
import { assert, PhxError } from '../errors.js';
import type { LogEngine } from '../wal/engine.js';
import type { CheckpointStore } from './checkpoint_store.js';
import type { StateMachine } from './replicated_log.js';

/** When checkpoints are made and what they keep. All numbers are for each group. */
export interface CheckpointOptions {
  /** A checkpoint is worth its writing after so many instances or bytes of values since the last one. */
  readonly instances_min: number;
  readonly bytes_min: number;
  /** Log entries that stay though nobody needs them, for replicas that lag behind: at most so many, */
  readonly held_instances_max: number;
  /** and not much more than so many bytes. */
  readonly held_bytes_max: number;
}

export const DEFAULT_CHECKPOINT_OPTIONS: CheckpointOptions = {
  instances_min: 1_000,
  bytes_min: 8 * 1024 * 1024,
  held_instances_max: 100_000,
  held_bytes_max: 64 * 1024 * 1024,
};

/** The group as its node knows it, at the moment of the call. */
export interface CheckpointedGroup {
  readonly applied_through: number;
  /** Checksum chain of the values up to there. */
  readonly chain: number;
  /** What the core needs to know of the members, as bytes. */
  readonly configurations: readonly Uint8Array[];
}

export interface CheckpointerParts {
  readonly log: LogEngine;
  readonly store: CheckpointStore;
  readonly stateMachine: StateMachine;
  readonly groups: number;
  readonly options: CheckpointOptions;
  readonly group: (group: number) => CheckpointedGroup;
  /** Whether the group waits for a state from elsewhere: what the state machine holds is no checkpoint's then. */
  readonly standsStill: (group: number) => boolean;
}

/** How far the values of a group had come, in bytes since the start of the process. */
interface Mark {
  readonly instance: number;
  readonly bytes: number;
}

/** Marks are apart by this share of the held bytes, at least by that many bytes. */
const MARKS_PER_HELD_BYTES = 8;
const MARK_STEP_BYTES_MIN = 1024 * 1024;

export class Checkpointer {
  readonly #parts: CheckpointerParts;
  readonly #progress: GroupProgress[];
  #running: Promise<number> | null = null;
  #closed = false;

  constructor(parts: CheckpointerParts) {
    this.#parts = parts;
    const step_bytes = Math.max(MARK_STEP_BYTES_MIN, parts.options.held_bytes_max / MARKS_PER_HELD_BYTES);
    this.#progress = Array.from({ length: parts.groups }, () => new GroupProgress(step_bytes));
  }

  /** An instance was applied whose value has so many bytes. */
  applied(group: number, instance: number, value_bytes: number): void {
    this.#progressOf(group).add(instance, value_bytes);
  }

  /**
   * Makes the checkpoints that are due; resolves to how many those were. While it runs a further call joins it. Rejects with
   * what the log fails with; a disk without room is no failure, the next call tries again.
   */
  run(): Promise<number> {
    this.#running ??= this.#runAll().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  /** No checkpoint is begun any more. The one being written is not waited for: the disk may have no room for it. */
  close(): void {
    this.#closed = true;
  }

  async #runAll(): Promise<number> {
    let made = 0;
    for (let group = 0; group < this.#parts.groups && !this.#closed; group += 1) {
      if (!this.#isDue(group)) continue;
      try {
        await this.#make(group);
        made += 1;
      } catch (error) {
        if (!isLackOfRoom(error)) throw error;
      }
    }
    return made;
  }

  #isDue(group: number): boolean {
    const { options, store, stateMachine, log } = this.#parts;
    if (this.#parts.standsStill(group)) return false;
    const { applied_through } = this.#parts.group(group);
    const last = store.record(group);
    const first_needed = Math.min(stateMachine.firstNeeded(group), applied_through + 1);
    // Without a need to read less, or to keep less, a checkpoint changes nothing.
    const retained = last?.first_retained ?? 1;
    const moved = first_needed > (last?.first_needed ?? 1) || this.#firstRetained(group, first_needed) > retained;
    const instances = applied_through - (last?.instance ?? 0);
    const worth = instances >= options.instances_min || this.#progressOf(group).bytes >= options.bytes_min;
    return moved && instances > 0 && (worth || log.low_on_space);
  }

  async #make(group: number): Promise<void> {
    const { store, stateMachine } = this.#parts;
    // All of this in one step: the state, what it retains and the instance belong together.
    const { applied_through: instance, chain, configurations } = this.#parts.group(group);
    const first_needed = Math.min(stateMachine.firstNeeded(group), instance + 1);
    const first_retained = this.#firstRetained(group, first_needed);
    const state = stateMachine.snapshot(group);
    const retention = stateMachine.retention(group);
    const place = { instance, chain, first_needed, first_retained, own_through: instance };
    const written = store.write(group, { ...place, configurations, state, retention });
    this.#progressOf(group).bytes = 0;
    await written;
  }

  /** Lowest instance to keep: what is held for others is held only while there is room. */
  #firstRetained(group: number, first_needed: number): number {
    const { options, store, log } = this.#parts;
    if (log.low_on_space) return first_needed;
    const { applied_through } = this.#parts.group(group);
    const held = Math.max(
      applied_through + 1 - options.held_instances_max,
      this.#progressOf(group).heldFrom(options.held_bytes_max),
      store.record(group)?.first_retained ?? 1,
    );
    return Math.min(first_needed, held);
  }

  #progressOf(group: number): GroupProgress {
    const progress = this.#progress[group];
    assert(progress !== undefined, 'the group exists');
    return progress;
  }
}

/** Counts the bytes of a group's values and remembers where some of them lay. */
class GroupProgress {
  /** Since the last checkpoint. */
  bytes = 0;
  readonly #step_bytes: number;
  readonly #marks: Mark[] = [];
  #total_bytes = 0;

  constructor(step_bytes: number) {
    this.#step_bytes = step_bytes;
  }

  add(instance: number, value_bytes: number): void {
    const last = this.#marks.at(-1);
    if (last === undefined || this.#total_bytes - last.bytes >= this.#step_bytes) {
      this.#marks.push({ instance, bytes: this.#total_bytes });
    }
    this.bytes += value_bytes;
    this.#total_bytes += value_bytes;
  }

  /**
   * The lowest instance to keep so that about `bytes_max` bytes stay; 1 if not so many came since the start. What was there
   * before the start counts as nothing, so up to twice as much stays for a while after it.
   */
  heldFrom(bytes_max: number): number {
    while (this.#marks.length > 1 && this.#total_bytes - (this.#marks[1]?.bytes ?? 0) >= bytes_max) this.#marks.shift();
    const [oldest] = this.#marks;
    if (oldest === undefined || this.#total_bytes - oldest.bytes < bytes_max) return 1;
    return oldest.instance;
  }
}

function isLackOfRoom(error: unknown): boolean {
  return error instanceof PhxError && (error.code === 'LOG_FULL' || error.code === 'PROPOSE_FAST_REJECT');
}
