/** The groups of a node as its log holds them, with the state machine brought to where they stand. */
import { crc32 } from 'node:zlib';
import { assert, PhxError } from '../errors.js';
import type { LogEngine } from '../wal/engine.js';
import { CheckpointStore } from './checkpoint_store.js';
import { Checkpointer, type CheckpointOptions } from './checkpointer.js';
import { encodeConfigurations } from './configurations.js';
import { Group } from './core/group.js';
import type { Configuration } from './core/members.js';
import type { CoreOptions } from './core/types.js';
import { commandsOf } from './core/value.js';
import { NO_ID } from './places.js';
import { restoreGroup } from './records.js';
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

export interface RestoredGroups {
  readonly groups: readonly Group[];
  readonly checkpoints: CheckpointStore;
  readonly checkpointer: Checkpointer;
}

/** Replays the log of each group into the state machine. Rejects with LOG_CORRUPT and what the log fails with. */
export async function restoreGroups(options: GroupsOptions): Promise<RestoredGroups> {
  const { log, founders, stateMachine, runtime } = options;
  const groups: Group[] = [];
  const checkpoints = new CheckpointStore(log);
  const checkpointer = new Checkpointer({
    log,
    store: checkpoints,
    stateMachine,
    groups: options.groups,
    options: options.checkpoints,
    group: (group) => {
      const core = groups[group];
      assert(core !== undefined, 'checkpoints are made of groups that were restored');
      const { applied_through, chain, configurations } = core;
      return { applied_through, chain, configurations: encodeConfigurations(configurations) };
    },
  });
  for (let group = 0; group < options.groups; group += 1) {
    const restored = await restoreGroup(
      log,
      checkpoints,
      group,
      { founders, checksum: crc32 },
      {
        restore: (snapshot, retention) => stateMachine.restore(group, snapshot, retention),
        reindex: (instance, value) => stateMachine.reindex(group, instance, commandsIn(value)),
        apply: (instance, value) => {
          stateMachine.apply(group, instance, commandsIn(value));
          checkpointer.applied(group, instance, value.length);
        },
      },
    );
    if (restored.gap !== null) {
      const { from, through } = restored.gap;
      const what = `instances ${from} to ${through} were not fetched before the replica stopped`;
      throw new PhxError('LOG_CORRUPT', `group ${group}: the checkpoint came from another replica, and ${what}`);
    }
    // Who it is there and whether it votes comes out later.
    const common = { group, self: NO_ID, voting: false };
    const config = { ...common, options: options.core, checksum: crc32, seed: runtime.seed() };
    groups.push(new Group(config, restored.core, runtime.monotonic_ms()));
  }
  return { groups, checkpoints, checkpointer };
}

/** The commands of a value, as views. */
export function commandsIn(value: Uint8Array): Command[] {
  return commandsOf(value).map(({ offset, length }) => ({ bytes: value.subarray(offset, offset + length), offset }));
}
