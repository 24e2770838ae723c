/** How a group stands at this replica, for metrics and the status page. */
import type { CheckpointRecord } from './checkpoint.js';
import type { Group } from './core/group.js';
import { placeOf } from './places.js';

export interface GroupStatus {
  readonly role: string;
  /** Place of the replica believed to lead. */
  readonly leader: number | null;
  readonly ballot: number;
  readonly chosen_through: number;
  readonly waiting: number;
  /** Instance of the newest checkpoint, and the lowest one that the log keeps. */
  readonly checkpoint: number;
  readonly first_retained: number;
  /** It waits for a state from elsewhere: until then it takes no part. */
  readonly stands_still: boolean;
}

/** What holds for a group without a checkpoint. */
const NO_CHECKPOINT = { instance: 0, first_retained: 1 } as const;

export function groupStatus(core: Group, record: CheckpointRecord | null, stands_still: boolean): GroupStatus {
  const { role, ballot, chosen_through, waiting } = core;
  const leader = core.leader === null ? null : placeOf(core.leader);
  const { instance: checkpoint, first_retained } = record ?? NO_CHECKPOINT;
  return { role, leader, ballot, chosen_through, waiting, checkpoint, first_retained, stands_still };
}
