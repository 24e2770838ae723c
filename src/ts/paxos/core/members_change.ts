/** Changes of the members: one at a time, through the log, driven on until it governs. */
import { assert } from '../../errors.js';
import { stepDown } from './acceptor.js';
import { REPLICA_ID_MAX } from './ballot.js';
import { startPrepare } from './election.js';
import type { Configuration } from './members.js';
import { isSound, type Member, type Roster } from './roster.js';
import type { GroupState, Leader } from './state.js';
import { bestSuccessor } from './transfer.js';
import type { MembersChange, Proposal, Refusal } from './types.js';

/** A change that waits for its instance. */
export interface WaitingChange {
  readonly proposal: Proposal;
  readonly roster: Roster;
}

/** Takes in a change, or refuses it at once. */
export function onChangeMembers(state: GroupState, id: number, deadline_ms: number, change: MembersChange): void {
  const { role, members } = state;
  const proposal = { id, parts: [], bytes: 0, deadline_ms };
  if (role.type !== 'leader') {
    state.refuse(proposal, state.leader === null ? 'NO_MASTER' : 'NOT_MASTER');
    return;
  }
  const roster = changed(members.newest, change);
  const refusal = roster === null ? 'MEMBERS_INVALID' : obstacle(state, role, roster);
  if (roster === null || refusal !== null) state.refuse(proposal, refusal ?? 'MEMBERS_INVALID');
  else state.change = { proposal, roster };
}

/** Why a sound change cannot be made now, or null. */
function obstacle(state: GroupState, leader: Leader, roster: Roster): Refusal | null {
  const { newest } = state.members;
  if (!isSettled(state, leader) || state.change !== null || leader.changing) return 'MEMBERS_PENDING';
  const voters = new Set(newest.members.flatMap(({ id, role }) => (role === 'voter' ? [id] : [])));
  const added = roster.members.filter(({ id, role }) => role === 'voter' && !voters.has(id));
  assert(added.length <= 1, 'a change adds one voter at most');
  const lags = added.some(
    ({ id }) => (leader.applied.get(id) ?? 0) + state.config.options.candidate_lag_max < state.applied_through,
  );
  return lags ? 'MEMBERS_LAGS' : null;
}

/**
 * Whether the newest members govern and a majority of them has applied all that others had a vote for: then nobody else is
 * needed any more, neither a vote nor a copy.
 */
export function isSettled(state: GroupState, leader: Leader): boolean {
  const { newest } = state.members;
  if (state.chosen_through < Math.max(leader.barrier, newest.from)) return false;
  const { self } = state.config;
  const applied = (id: number): number => (id === self ? state.applied_through : (leader.applied.get(id) ?? 0));
  return state.members.isQuorum(newest.from, (id) => applied(id) >= newest.from);
}

/** The members after the change, or null if there can be no such change. */
function changed(newest: Configuration, change: MembersChange): Roster | null {
  const members = membersAfter(newest, change);
  if (members === null || members.some(({ id }) => id > REPLICA_ID_MAX)) return null;
  const next_id = Math.max(newest.next_id, ...members.map(({ id }) => id + 1));
  const roster = { based_on: newest.chosen_at, next_id, members };
  return isSound(roster) ? roster : null;
}

function membersAfter({ members, next_id }: Configuration, change: MembersChange): readonly Member[] | null {
  const id = change.type === 'add_learner' ? change.member.id : change.id;
  const present = members.find((member) => member.id === id);
  switch (change.type) {
    case 'add_learner':
      return id < next_id ? null : [...members, { ...change.member, role: 'learner' }];
    case 'promote':
      if (present?.role !== 'learner') return null;
      return members.map((member) => (member === present ? { ...member, role: 'voter' } : member));
    case 'remove':
      return present === undefined ? null : members.filter((member) => member !== present);
    case 'replace': {
      const learner = members.find((member) => member.id === change.by.id);
      const allowed = learner === undefined ? change.by.id >= next_id : learner.role === 'learner';
      if (present === undefined || present === learner || !allowed) return null;
      const rest = members.filter((member) => member !== present && member !== learner);
      return [...rest, { ...change.by, role: present.role }];
    }
  }
}

/** A members value was applied: tells the shell, and whoever asked for the change. */
export function announce(state: GroupState, instance: number, asked: Proposal | null): void {
  const configuration = state.members.cameWith(instance);
  if (state.role.type === 'leader') state.role.changing = false;
  if (configuration !== null) {
    state.emit({ type: 'members', configuration, proposal: asked?.id ?? null });
  } else if (asked !== null) {
    // Another change came first: this one is void.
    state.refuse(asked, 'NOT_MASTER');
  }
}

/**
 * After each step. A leader whose promises are no majority of members that it has just learned asks them for theirs: it
 * cannot know what they accepted from others. One that is no voter any more hands over.
 */
export function heedMembers(state: GroupState): void {
  const { role, members, chosen_through } = state;
  const { self, options } = state.config;
  if (role.type === 'leader' && !members.isVoter(chosen_through + 1, self)) {
    const to = bestSuccessor(state, role);
    assert(to !== null, 'a group without this replica has other voters');
    state.transfer ??= { to, until_ms: state.now_ms + options.transfer_timeout_ms, requested: false, asked: false };
  } else if (role.type === 'leader') {
    const above = Math.max(chosen_through, role.prepared_above);
    if (!members.isQuorumOfAll(above, (id) => role.promised_by.has(id))) startPrepare(state);
  }
}

/** Whether `id` was a member and has no vote any more for anything that is not known to be chosen here. */
export function isRemoved({ members, chosen_through }: GroupState, id: number): boolean {
  return chosen_through >= members.newest.from && members.isExcluded(chosen_through, id);
}

/** The leader says that the group goes on without this replica. It still answers, but stands no more. */
export function onRemoved(state: GroupState): void {
  if (state.removed) return;
  state.removed = true;
  if (state.role.type !== 'follower') stepDown(state);
  state.emit({ type: 'removed' });
}
