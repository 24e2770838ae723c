/** The learner: finds out what is chosen, closes gaps, hands chosen values to the state machine in order. */
import { assert } from '../../errors.js';
import type { Ballot } from './ballot.js';
import { announce } from './members_change.js';
import type { GroupState } from './state.js';
import type { AcceptedEntry } from './types.js';
import { originOf, rosterOf } from './value.js';

/** Takes in that `from` says, as of `ballot`, that everything up to `through` is chosen. */
export function heedClaim(state: GroupState, from: number, ballot: Ballot, through: number): void {
  const old = state.claim;
  const newer = ballot > old.ballot || (ballot === old.ballot && through > old.through);
  // A new leader may lag behind the old one's word, which stays true: what was chosen stays chosen.
  if (newer && through >= state.chosen_through) state.claim = { from, ballot, through };
  // Even when nothing new was said: a value may come after the claim that covers it, on another connection.
  advanceChosen(state);
}

/**
 * Moves the end of the chosen prefix. A value accepted at the claim's ballot or above is the chosen one: once a value is
 * chosen, every higher ballot proposes the same ("The Part-Time Parliament", theorem 1).
 */
export function advanceChosen(state: GroupState): void {
  for (;;) {
    const instance = state.chosen_through + 1;
    const entry = state.entries.get(instance);
    if (entry === undefined) break;
    const claimed = instance <= state.claim.through && entry.ballot >= state.claim.ballot;
    if (!entry.chosen && !claimed) break;
    entry.chosen = true;
    state.chosen_through = instance;
    state.gap_since_ms = null;
    // From here on its members count for elections and leases, before this replica has it on disk.
    const roster = rosterOf(entry.value);
    if (roster !== null) state.members.learn(instance, roster);
  }
  applyChosen(state);
}

/** Applies what is chosen and, on this replica, durable: so whatever was applied can be read from the own log. */
export function applyChosen(state: GroupState): void {
  while (state.applied_through < state.chosen_through) {
    const instance = state.applied_through + 1;
    const entry = state.entries.get(instance);
    assert(entry !== undefined, 'every chosen instance above the applied prefix is held');
    if (!entry.durable) return;
    const pending = state.pending.get(instance);
    state.pending.delete(instance);
    const own = pending !== undefined && pending.origin === originOf(entry.value);
    if (pending !== undefined && !own) {
      for (const proposal of pending.proposals) state.refuse(proposal, 'NOT_MASTER');
    }
    state.applied_through = instance;
    state.chain.add(instance, entry.value);
    state.dropEntry(instance);
    // A leader may learn from elsewhere that what it proposes again was chosen long ago.
    if (state.role.type === 'leader') state.role.in_flight.delete(instance);
    const change = rosterOf(entry.value) !== null;
    const proposals = own && !change ? pending.proposals.map((proposal) => proposal.id) : null;
    state.emit({ type: 'apply', instance, value: entry.value, proposals });
    if (change) announce(state, instance, own ? (pending.proposals[0] ?? null) : null);
    state.members.forget(instance);
  }
}

/**
 * Asks for missing chosen values when a gap lasts, and again when an answer fails to come. Not before what is known to be
 * chosen is applied: where disk and network are busy, what is missing is probably on its way. And not while much of what came
 * waits for the disk: a peer that serves faster than it writes must not fill the memory.
 */
export function fetchGap(state: GroupState): void {
  const { options } = state.config;
  if (fetchSource(state) === null) {
    state.gap_since_ms = null;
    state.fetch_sent_at_ms = null;
    return;
  }
  const waiting = state.fetch_sent_at_ms;
  if (waiting === null ? state.applied_through < state.chosen_through : isAhead(state)) return;
  state.gap_since_ms ??= state.now_ms;
  if (waiting !== null && state.now_ms - waiting < options.fetch_timeout_ms) return;
  if (state.now_ms - state.gap_since_ms < options.fetch_delay_ms) return;
  sendFetch(state);
}

/** Whom to ask for what is chosen and missing here, or null if nothing is. Anybody may have what is damaged here. */
function fetchSource(state: GroupState): number | null {
  const { from, through } = state.claim;
  if (state.repairing) {
    // Those that it knows of may all be gone by now; whoever leads is there.
    const sources = from === 0 || from === state.config.self ? state.members.others : [...state.members.others, from];
    return sources[state.repair_attempts % sources.length] ?? null;
  }
  return state.chosen_through < through && from !== state.config.self ? from : null;
}

function sendFetch(state: GroupState): void {
  const source = fetchSource(state);
  if (source === null) return;
  const through = state.repairing ? state.known_through : state.claim.through;
  if (state.repairing) state.repair_attempts += 1;
  state.fetch_sent_at_ms = state.now_ms;
  state.fetch_from = source;
  state.send(source, { type: 'fetch', from: state.chosen_through + 1, through });
}

/** Serves a peer that fetches: what was applied here is chosen and in the log. */
export function onFetch(state: GroupState, to: number, from: number, through: number): void {
  if (from < state.retained_from) {
    state.emit({ type: 'serve_snapshot', to });
    return;
  }
  const last = Math.min(through, state.applied_through);
  if (from < 1 || from > last) {
    state.send(to, { type: 'learn', entries: [] });
    return;
  }
  state.emit({ type: 'serve_fetch', to, from, through: last });
}

/** Takes in chosen values. */
export function onLearn(state: GroupState, from: number, entries: readonly AcceptedEntry[]): void {
  const before = state.chosen_through;
  for (const { instance, ballot, value } of entries) {
    if (instance <= state.chosen_through) continue;
    const held = state.entries.get(instance);
    if (held !== undefined && originOf(held.value) === originOf(value)) {
      held.chosen = true;
      continue;
    }
    assert(held?.chosen !== true, 'one value is chosen for an instance');
    state.putEntry(instance, { ballot, value, durable: false, chosen: true });
    state.learned_bytes += value.length;
    state.write(
      { type: 'entry', instance, ballot, chosen_through: state.chosen_through, value },
      { type: 'learned', instance, bytes: value.length },
    );
  }
  advanceChosen(state);
  if (state.fetch_sent_at_ms === null || from !== state.fetch_from) return;
  state.fetch_sent_at_ms = null;
  // Progress: go on as soon as the disk allows. None: the peer cannot serve yet, a later tick asks again.
  state.fetch_goes_on = state.chosen_through > before;
  if (!state.fetch_goes_on) state.gap_since_ms = state.now_ms;
  continueFetch(state);
}

/** Whether as much as may is on its way to the disk. */
function isAhead(state: GroupState): boolean {
  return state.learned_bytes >= state.config.options.fetch_ahead_bytes_max;
}

function continueFetch(state: GroupState): void {
  if (!state.fetch_goes_on || isAhead(state)) return;
  state.fetch_goes_on = false;
  sendFetch(state);
}

/** An own write of a learned value reached the disk. */
export function onLearnedDurable(state: GroupState, instance: number, bytes: number): void {
  state.learned_bytes -= bytes;
  const entry = state.entries.get(instance);
  if (entry !== undefined) entry.durable = true;
  applyChosen(state);
  continueFetch(state);
}
