/**
 * How the protocol's state lies in the log. Entry records hold u64 ballot, u64 chosen prefix as known when they were
 * written, then the value; state records hold one u64 (docs/internals/paxos.md, "What is durable"). Little-endian.
 */
import { PhxError } from '../errors.js';
import { type LogEngine, type LogRecord, RecordKind } from '../wal/engine.js';
import { ballotFrom, NO_BALLOT } from './core/ballot.js';
import { Chain, type Checksum } from './core/chain.js';
import { type Configuration, Members } from './core/members.js';
import type { Restored } from './core/state.js';
import type { AcceptedEntry, LogWrite } from './core/types.js';
import { rosterOf } from './core/value.js';

const ENTRY_HEAD_BYTES = 16;

/** Slots of state records. */
const SLOT_PROMISE = 0;
const SLOT_LONGEST_GRANT = 1;

/** Entries are replayed in portions of this size. */
const REPLAY_BYTES = 4 * 1024 * 1024;

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

/**
 * Reads a group back: calls `apply` for each instance known to be chosen, in order, and returns what the core starts
 * with. Throws LOG_CORRUPT if a chosen instance is missing: this replica must not vote for what it has forgotten.
 */
export async function restoreGroup(
  log: LogEngine,
  group: number,
  founders: Configuration,
  checksum: Checksum,
  apply: (instance: number, value: Uint8Array) => void,
): Promise<Restored> {
  const damaged = log.recovery.corrupt.find((record) => record.group === null || record.group === group);
  if (damaged !== undefined) {
    const place = `segment ${damaged.segment} offset ${damaged.offset}`;
    throw new PhxError('LOG_CORRUPT', `group ${group}: a damaged record at ${place} may have held a vote`);
  }
  const bounds = log.bounds(group);
  const above = new Map<number, AcceptedEntry>();
  let chosen_through = 0;
  const chain = new Chain(checksum, { instance: 0, chain: 0 });
  const members = new Members(0, [founders]);
  let applied = 0;
  let next = bounds?.first ?? 1;
  while (bounds !== null && next <= bounds.last) {
    const portion = await log.readRange(group, next, bounds.last, REPLAY_BYTES);
    if (portion.length === 0) break;
    for (const { instance, body } of portion) {
      const entry = entryOf(instance, body);
      above.set(instance, entry);
      chosen_through = Math.max(chosen_through, entry.chosen_through);
      next = instance + 1;
    }
    applied = applyPrefix(above, applied, chosen_through, (instance, value) => {
      chain.add(instance, value);
      const roster = rosterOf(value);
      if (roster !== null) members.learn(instance, roster);
      members.forget(instance);
      apply(instance, value);
    });
  }
  if (applied < chosen_through) {
    throw new PhxError('LOG_CORRUPT', `group ${group}: chosen instance ${applied + 1} is missing from the log`);
  }
  const promised = log.state(group, SLOT_PROMISE);
  const longest = log.state(group, SLOT_LONGEST_GRANT);
  return {
    promised: promised === null ? NO_BALLOT : ballotFrom(readU64(promised)),
    longest_grant_ms: longest === null ? 0 : readU64(longest),
    chosen_through,
    chain: chain.end.chain,
    configurations: members.list,
    known_through: chosen_through,
    retained_from: bounds?.first ?? 1,
    entries: [...above.values()],
  };
}

function applyPrefix(
  above: Map<number, AcceptedEntry>,
  applied: number,
  chosen_through: number,
  apply: (instance: number, value: Uint8Array) => void,
): number {
  let last = applied;
  while (last < chosen_through) {
    const entry = above.get(last + 1);
    if (entry === undefined) return last;
    last += 1;
    apply(last, entry.value);
    above.delete(last);
  }
  return last;
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
