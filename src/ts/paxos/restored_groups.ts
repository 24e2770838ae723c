/** The groups of a node as its log holds them, with the state machine brought to where they stand. */
import { crc32 } from 'node:zlib';
import { assert } from '../errors.js';
import type { LogEngine } from '../wal/engine.js';
import { CheckpointStore } from './checkpoint_store.js';
import { Checkpointer, type CheckpointOptions } from './checkpointer.js';
import { encodeConfigurations } from './configurations.js';
import { Group } from './core/group.js';
import type { Configuration } from './core/members.js';
import type { Restored } from './core/state.js';
import type { CoreOptions } from './core/types.js';
import { commandsOf } from './core/value.js';
import { DamagedEntries } from './damaged_entries.js';
import { NO_ID } from './places.js';
import {
  type CheckpointReplay,
  type Gap,
  type RestoredGroup,
  restoreBelowGap,
  restoreCheckpoint,
  restoreGroup,
} from './records.js';
import type { Command, StateMachine } from './replicated_log.js';
import type { Runtime } from './runtime.js';

export interface GroupsOptions {
  readonly log: LogEngine;
  readonly groups: number;
  readonly founders: Configuration;
  readonly stateMachine: StateMachine;
  readonly core: CoreOptions;
  readonly checkpoints: CheckpointOptions;
  readonly runtime: Runtime;
}

/** See the head of this file. */
export class RestoredGroups {
  readonly groups: Group[] = [];
  readonly checkpoints: CheckpointStore;
  readonly checkpointer: Checkpointer;
  /**
   * Groups whose state is not where their checkpoint is: they take no part until it is. After a start these are the ones whose
   * checkpoint came from a peer and lacks entries, and those with damaged entries.
   */
  readonly standing_still = new Map<number, Gap | null>();
  readonly #options: GroupsOptions;
  readonly #damaged: DamagedEntries;

  private constructor(options: GroupsOptions) {
    const { log, stateMachine } = options;
    this.#options = options;
    this.checkpoints = new CheckpointStore(log);
    this.#damaged = new DamagedEntries(log, this.checkpoints, options.founders.members.length);
    this.checkpointer = new Checkpointer({
      log,
      store: this.checkpoints,
      stateMachine,
      groups: options.groups,
      options: options.checkpoints,
      group: (group) => {
        const { applied_through, chain, configurations } = this.at(group);
        return { applied_through, chain, configurations: encodeConfigurations(configurations) };
      },
      standsStill: (group) => this.standing_still.has(group),
    });
  }

  /** Replays the log of each group into the state machine. Rejects with LOG_CORRUPT and what the log fails with. */
  static async read(options: GroupsOptions): Promise<RestoredGroups> {
    const restored = new RestoredGroups(options);
    for (let group = 0; group < options.groups; group += 1) {
      const { core, gap } = await restored.restore(group);
      restored.begin(group, core);
      if (gap !== null) restored.standing_still.set(group, gap);
    }
    return restored;
  }

  /** Of each group. */
  get chosen_through(): number[] {
    return this.groups.map(({ chosen_through }) => chosen_through);
  }

  /** Ids of members that may have what is missing here, as far as the log tells. */
  membersToAsk(group: number): readonly number[] {
    const members = this.at(group).configurations.at(-1)?.members ?? [];
    return [...new Set([...members.map(({ id }) => id), ...this.#damaged.members(group)])];
  }

  at(group: number): Group {
    const core = this.groups[group];
    assert(core !== undefined, 'the group exists');
    return core;
  }

  /** Reads a group as a start does. Rejects with LOG_CORRUPT and what the log fails with. */
  async restore(group: number): Promise<RestoredGroup> {
    const { log, founders } = this.#options;
    const gap = await this.#damaged.gap(group);
    if (gap !== null) return restoreBelowGap(log, this.checkpoints, group, founders, gap);
    return restoreGroup(
      log,
      this.checkpoints,
      group,
      { founders, checksum: crc32 },
      {
        ...this.#replay(group),
        apply: (instance, value) => {
          this.#options.stateMachine.apply(group, instance, commandsIn(value));
          this.checkpointer.applied(group, instance, value.length);
        },
      },
    );
  }

  /** Takes over the checkpoint alone. Rejects as `restore` does. */
  restoreCheckpoint(group: number): Promise<Pick<RestoredGroup, 'checkpoint' | 'gap'>> {
    return restoreCheckpoint(this.#options.log, this.checkpoints, group, this.#replay(group));
  }

  /** A group begins with what was read. */
  begin(group: number, restored: Restored): void {
    const { core: options, runtime } = this.#options;
    // Who it is there and whether it votes comes out later.
    const config = { group, self: NO_ID, voting: false, options, checksum: crc32, seed: runtime.seed() };
    this.groups[group] = new Group(config, restored, runtime.monotonic_ms());
  }

  #replay(group: number): CheckpointReplay {
    const { stateMachine } = this.#options;
    return {
      restore: (snapshot, retention) => stateMachine.restore(group, snapshot, retention),
      reindex: (instance, value) => stateMachine.reindex(group, instance, commandsIn(value)),
      restored: () => stateMachine.restored(group),
    };
  }
}

/** The commands of a value, as views. */
export function commandsIn(value: Uint8Array): Command[] {
  return commandsOf(value).map(({ offset, length }) => ({ bytes: value.subarray(offset, offset + length), offset }));
}
