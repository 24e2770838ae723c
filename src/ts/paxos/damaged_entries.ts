/**
 * Entries that the log reports as damaged and that others have. Where an instance is known to be chosen, what was accepted there
 * is no secret that died with the record: the replica fetches what was chosen, and the new record takes the place of the damaged
 * one. Until then the group stands still, as behind a checkpoint that lacks entries. Any other damage is LOG_CORRUPT.
 */
import { PhxError } from '../errors.js';
import type { CorruptRecord, LogEngine } from '../wal/engine.js';
import type { CheckpointStore } from './checkpoint_store.js';
import { rosterOf } from './core/value.js';
import { entriesFrom, type Gap, STATE_SLOTS } from './records.js';

export class DamagedEntries {
  readonly #log: LogEngine;
  readonly #checkpoints: CheckpointStore;
  readonly #replicas: number;
  /** By group: what was damaged when it was first looked at. */
  readonly #found = new Map<number, readonly number[]>();
  readonly #members = new Map<number, readonly number[]>();

  constructor(log: LogEngine, checkpoints: CheckpointStore, replicas: number) {
    this.#log = log;
    this.#checkpoints = checkpoints;
    this.#replicas = replicas;
  }

  /**
   * The first instances of a group that have to be fetched, null if none has to. Rejects with LOG_CORRUPT if what is damaged
   * may have been a vote, or cannot be fetched.
   */
  async gap(group: number): Promise<Gap | null> {
    const found = this.#found.get(group) ?? (await this.#look(group));
    this.#found.set(group, found);
    const run: number[] = [];
    for (const instance of found) {
      if (run.length > 0 && instance !== (run.at(-1) ?? 0) + 1) break;
      if (await this.#isUnreadable(group, instance)) run.push(instance);
    }
    const [from] = run;
    return from === undefined ? null : { from, through: run.at(-1) ?? from };
  }

  /** Ids of the newest members above the checkpoint that sound entries tell of: those of the checkpoint may all be gone. */
  members(group: number): readonly number[] {
    return this.#members.get(group) ?? [];
  }

  /** Ascending. */
  async #look(group: number): Promise<readonly number[]> {
    const first_retained = this.#checkpoints.record(group)?.first_retained ?? 0;
    const instances = new Set<number>();
    for (const record of this.#log.recovery.corrupt) {
      if (record.group !== null && record.group !== group) continue;
      // A slot might be any state.
      if (record.group === null || record.instance === null || record.instance < STATE_SLOTS)
        throw fatal(group, record);
      // Below, a durable checkpoint replaced it.
      if (record.instance < first_retained) continue;
      // A record whose body is sound is not what is wrong there.
      if (this.#replicas === 1 || !(await this.#isUnreadable(group, record.instance))) throw fatal(group, record);
      instances.add(record.instance);
    }
    const found = [...instances].sort((a, b) => a - b);
    const [highest] = found.slice(-1);
    if (highest !== undefined && highest > (await this.#knownToBeChosen(group, found))) {
      throw new PhxError('LOG_CORRUPT', `group ${group}: the damaged instance ${highest} may have held a vote`);
    }
    return found;
  }

  /** Up to where the checkpoint and the sound entries say that all is chosen. */
  async #knownToBeChosen(group: number, damaged: readonly number[]): Promise<number> {
    let known = this.#checkpoints.record(group)?.instance ?? 0;
    let from = known + 1;
    for (const until of [...damaged, Number.MAX_SAFE_INTEGER]) {
      if (until < from) continue;
      for await (const { chosen_through, value } of entriesFrom(this.#log, group, from, until - 1)) {
        known = Math.max(known, chosen_through);
        const roster = rosterOf(value);
        if (roster !== null)
          this.#members.set(
            group,
            roster.members.map(({ id }) => id),
          );
      }
      from = until + 1;
    }
    return known;
  }

  async #isUnreadable(group: number, instance: number): Promise<boolean> {
    try {
      await this.#log.read(group, instance);
      return false;
    } catch (error) {
      if (error instanceof PhxError && error.code === 'LOG_CORRUPT') return true;
      throw error;
    }
  }
}

function fatal(group: number, { segment, offset }: CorruptRecord): PhxError {
  const place = `segment ${segment} offset ${offset}`;
  return new PhxError('LOG_CORRUPT', `group ${group}: a damaged record at ${place} may have held a vote`);
}
