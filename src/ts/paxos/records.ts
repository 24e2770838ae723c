/**
 * How the protocol's state lies in the log. Entry records hold u64 ballot, u64 chosen prefix as known when they were
 * written, then the value; state records hold one u64 (docs/internals/paxos.md, "What is durable"). Little-endian.
 */
import { PhxError } from '../errors.js';
import { type LogEngine, type LogRecord, RecordKind } from '../wal/engine.js';
import type { Checkpoint, CheckpointStore } from './checkpoint_store.js';
import { decodeConfigurations } from './configurations.js';
import { type Ballot, ballotFrom, NO_BALLOT } from './core/ballot.js';
import { Chain, type Checksum } from './core/chain.js';
import { type Configuration, Members } from './core/members.js';
import type { Restored } from './core/state.js';
import type { AcceptedEntry, LogWrite } from './core/types.js';
import { rosterOf } from './core/value.js';

const ENTRY_HEAD_BYTES = 16;

/** Slots of state records. */
const SLOT_PROMISE = 0;
const SLOT_LONGEST_GRANT = 1;
/** State records have slots below this; the checkpoint's is among them. */
export const STATE_SLOTS = 16;

/** Entries are replayed in portions of this size; in between others get their turn. */
const REPLAY_BYTES = 1024 * 1024;

/** What an entry record says. */
export interface StoredEntry extends AcceptedEntry {
  readonly chosen_through: number;
}

export function recordOf(group: number, write: LogWrite): LogRecord {
  switch (write.type) {
    case 'promise':
      return { kind: RecordKind.state, group, instance: SLOT_PROMISE, body: [u64(write.ballot)] };
    case 'longest_grant':
      return { kind: RecordKind.state, group, instance: SLOT_LONGEST_GRANT, body: [u64(Math.ceil(write.lease_ms))] };
    case 'entry': {
      const head = new Uint8Array(ENTRY_HEAD_BYTES);
      const view = new DataView(head.buffer);
      view.setBigUint64(0, BigInt(write.ballot), true);
      view.setBigUint64(8, BigInt(write.chosen_through), true);
      return { kind: RecordKind.entry, group, instance: write.instance, body: [head, write.value] };
    }
  }
}

/** What a state record says. */
export type StoredState =
  | { readonly type: 'promise'; readonly ballot: Ballot }
  | { readonly type: 'longest_grant'; readonly lease_ms: number };

/** Reads a state record; null for a slot that this release does not know. Throws LOG_CORRUPT for a wrong length. */
export function stateOf(slot: number, body: Uint8Array): StoredState | null {
  if (slot === SLOT_PROMISE) return { type: 'promise', ballot: ballotFrom(readU64(body)) };
  if (slot === SLOT_LONGEST_GRANT) return { type: 'longest_grant', lease_ms: readU64(body) };
  return null;
}

/** Reads an entry record. Throws LOG_CORRUPT if it is too short to be one. */
export function entryOf(instance: number, body: Uint8Array): StoredEntry {
  if (body.length < ENTRY_HEAD_BYTES) throw new PhxError('LOG_CORRUPT', `entry ${instance} of ${body.length} bytes`);
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  return {
    instance,
    ballot: ballotFrom(Number(view.getBigUint64(0, true))),
    chosen_through: Number(view.getBigUint64(8, true)),
    value: body.subarray(ENTRY_HEAD_BYTES),
  };
}

/** Takes what a checkpoint holds, in this order. `restored` only once nothing of it is missing. */
export interface CheckpointReplay {
  restore(snapshot: Uint8Array, retention: Uint8Array): void;
  reindex(instance: number, value: Uint8Array): void;
  restored(): void;
}

/** Takes what a group's log holds: the checkpoint, if there is one, then what comes after it. */
export interface Replay extends CheckpointReplay {
  apply(instance: number, value: Uint8Array): void;
}

/** What a group begins with. */
export interface Beginning {
  readonly founders: Configuration;
  readonly checksum: Checksum;
}

/** Instances that are chosen and whose entries are not in the log: of a checkpoint that came from a peer, or damaged. */
export interface Gap {
  readonly from: number;
  readonly through: number;
}

export interface RestoredGroup {
  /** What the core starts with. */
  readonly core: Restored;
  readonly checkpoint: Checkpoint | null;
  /** Where there is one, nothing above it was replayed: fetch it, then restore again. */
  readonly gap: Gap | null;
}

/**
 * Reads a group back: takes over the checkpoint, indexes again the instances that it needs, applies those above that are
 * known to be chosen, and returns what the core starts with. Rejects with LOG_CORRUPT if the checkpoint or a chosen
 * instance is damaged or missing: this replica must not vote for what it has forgotten. Whoever calls it has looked at what the
 * log reports as damaged (`DamagedEntries`).
 */
export async function restoreGroup(
  log: LogEngine,
  checkpoints: CheckpointStore,
  group: number,
  { founders, checksum }: Beginning,
  replay: Replay,
): Promise<RestoredGroup> {
  const { checkpoint, gap } = await restoreCheckpoint(log, checkpoints, group, replay);
  const instance = checkpoint?.record.instance ?? 0;
  const chain = new Chain(checksum, { instance, chain: checkpoint?.record.chain ?? 0 });
  const members = new Members(
    0,
    checkpoint === null ? [founders] : decodeConfigurations(checkpoint.payload.configurations),
  );
  const apply = (applied: number, value: Uint8Array): void => {
    chain.add(applied, value);
    const roster = rosterOf(value);
    if (roster !== null) members.learn(applied, roster);
    members.forget(applied);
    replay.apply(applied, value);
  };
  const { chosen_through, entries } =
    gap === null ? await applyChosen(log, group, instance, apply) : { chosen_through: instance, entries: [] };
  const { chain: link } = chain.end;
  const core = { ...votesIn(log, group), chosen_through, chain: link, configurations: members.list, entries };
  return { core: { ...core, known_through: chosen_through, retained_from: retainedFrom(checkpoint) }, checkpoint, gap };
}

/**
 * What a group stands still with while `gap` is fetched: where its checkpoint is. Rejects with LOG_CORRUPT if that is damaged.
 */
export async function restoreBelowGap(
  log: LogEngine,
  checkpoints: CheckpointStore,
  group: number,
  founders: Configuration,
  gap: Gap,
): Promise<RestoredGroup> {
  const checkpoint = await checkpoints.read(group);
  checkpoints.truncate(group);
  const { instance, chain } = checkpoint?.record ?? { instance: 0, chain: 0 };
  const configurations = checkpoint === null ? [founders] : decodeConfigurations(checkpoint.payload.configurations);
  const core = { ...votesIn(log, group), chosen_through: instance, chain, configurations, entries: [] };
  return { core: { ...core, known_through: instance, retained_from: retainedFrom(checkpoint) }, checkpoint, gap };
}

function votesIn(log: LogEngine, group: number): Pick<Restored, 'promised' | 'longest_grant_ms'> {
  const longest = log.state(group, SLOT_LONGEST_GRANT);
  return { promised: promisedIn(log, group), longest_grant_ms: longest === null ? 0 : readU64(longest) };
}

function retainedFrom(checkpoint: Checkpoint | null): number {
  return checkpoint?.record.first_retained ?? 1;
}

/**
 * Takes over the checkpoint of a group, and indexes again the instances that it needs; or tells which of them are missing.
 * Rejects with LOG_CORRUPT.
 */
export async function restoreCheckpoint(
  log: LogEngine,
  checkpoints: CheckpointStore,
  group: number,
  replay: CheckpointReplay,
): Promise<Pick<RestoredGroup, 'checkpoint' | 'gap'>> {
  const checkpoint = await checkpoints.read(group);
  // Truncation is not durable: what a crash brought back is dropped again.
  checkpoints.truncate(group);
  const gap = checkpoint === null ? null : await reindexRetained(log, group, checkpoint, replay);
  if (checkpoint !== null && gap === null) replay.restored();
  return { checkpoint, gap };
}

/** Hands the checkpoint over with the entries that it needs; returns those that are still missing, or null. */
async function reindexRetained(
  log: LogEngine,
  group: number,
  { record, payload }: Checkpoint,
  replay: CheckpointReplay,
): Promise<Gap | null> {
  const { instance: through, first_needed, own_through } = record;
  replay.restore(payload.state, payload.retention);
  let next = first_needed;
  for await (const entry of entriesFrom(log, group, first_needed, through)) {
    // What was accepted before the checkpoint came need not be what was chosen: only one that says so counts.
    const known = entry.instance <= own_through || entry.chosen_through >= entry.instance;
    if (entry.instance !== next || !known) break;
    replay.reindex(next, entry.value);
    next += 1;
  }
  if (next > through) return null;
  if (next > own_through) return { from: next, through };
  throw new PhxError('LOG_CORRUPT', `group ${group}: instance ${next} is missing, which the checkpoint needs`);
}

/** Applies what is known to be chosen above `applied`; the rest comes back as accepted. */
async function applyChosen(
  log: LogEngine,
  group: number,
  applied: number,
  apply: Replay['apply'],
): Promise<{ chosen_through: number; entries: AcceptedEntry[] }> {
  const above = new Map<number, AcceptedEntry>();
  let chosen_through = applied;
  let last = applied;
  for await (const entry of entriesFrom(log, group, applied + 1, Number.MAX_SAFE_INTEGER)) {
    const { instance, ballot, value } = entry;
    above.set(instance, { instance, ballot, value });
    chosen_through = Math.max(chosen_through, entry.chosen_through);
    for (let next = above.get(last + 1); last < chosen_through && next !== undefined; next = above.get(last + 1)) {
      last += 1;
      apply(last, next.value);
      above.delete(last);
    }
  }
  if (last < chosen_through) {
    throw new PhxError('LOG_CORRUPT', `group ${group}: chosen instance ${last + 1} is missing from the log`);
  }
  return { chosen_through, entries: [...above.values()] };
}

/** The entries of a group with from <= instance <= through, in order. Rejects with LOG_CORRUPT. */
export async function* entriesFrom(
  log: LogEngine,
  group: number,
  from: number,
  through: number,
): AsyncGenerator<StoredEntry, void, undefined> {
  const last = Math.min(through, log.bounds(group)?.last ?? 0);
  for (let next = from; next <= last; ) {
    const portion = await log.readRange(group, next, last, REPLAY_BYTES);
    if (portion.length === 0) return;
    for (const { instance, body } of portion) {
      yield entryOf(instance, body);
      next = instance + 1;
    }
  }
}

/** The promise of a group that is durable. Throws LOG_CORRUPT. */
export function promisedIn(log: Pick<LogEngine, 'state'>, group: number): Ballot {
  const promised = log.state(group, SLOT_PROMISE);
  return promised === null ? NO_BALLOT : ballotFrom(readU64(promised));
}

function u64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
}

function readU64(bytes: Uint8Array): number {
  if (bytes.length !== 8) throw new PhxError('LOG_CORRUPT', `state record of ${bytes.length} bytes`);
  return Number(new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true));
}
