/**
 * Jumps over instances that no peer has in its log any more. The state of the state machine travels outside the core; when
 * it is complete and durable here, the core goes on above it.
 */
import { assert } from '../../errors.js';
import { advanceChosen } from './learner.js';
import type { GroupState } from './state.js';
import type { Snapshot } from './types.js';

/** Everything up to `snapshot.through` is chosen and in this replica's state. */
export function onSnapshotInstalled(state: GroupState, snapshot: Snapshot): void {
  const { through, chain, configurations, retained_from } = snapshot;
  if (through <= state.applied_through) return;
  for (const instance of [...state.entries.keys()]) {
    if (instance <= through) state.dropEntry(instance);
  }
  for (const [instance, { proposals, expired }] of [...state.pending]) {
    if (instance > through) continue;
    state.pending.delete(instance);
    // What became of them is in the snapshot, unreadable here.
    for (const proposal of proposals) if (!expired.has(proposal.id)) state.refuse(proposal, 'PROPOSE_TIMEOUT');
  }
  if (state.chosen_through < through) {
    state.chosen_through = through;
    state.members.restart(configurations);
  }
  state.applied_through = through;
  state.members.forget(through);
  state.chain.restart({ instance: through, chain });
  state.retained_from = Math.max(state.retained_from, retained_from);
  const { role } = state;
  if (role.type === 'leader') {
    for (const instance of [...role.in_flight.keys()]) if (instance <= through) role.in_flight.delete(instance);
    role.next_instance = Math.max(role.next_instance, through + 1);
    role.changing = false;
  }
  assert(
    [...state.entries.keys()].every((instance) => instance > through),
    'nothing is held below a snapshot',
  );
  state.gap_since_ms = null;
  state.fetch_sent_at_ms = null;
  advanceChosen(state);
}
