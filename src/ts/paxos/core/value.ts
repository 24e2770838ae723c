/**
 * The bytes of a value, the unit that Paxos chooses (docs/internals/paxos.md, "Values"). All integers little-endian:
 *
 *   0  u8   kind: 0 no-operation, 1 batch of commands, 2 members
 *   1  u8   version of the kind, 1
 *   2  u16  zero
 *   4  u32  number of commands, or of members
 *   8  u64  origin: the ballot under which the value was first proposed; it stays when a later leader proposes it again
 *  16  u32  length of each command
 *      ...  the commands
 *
 * After the head of a members value comes what roster.ts says.
 */
import { assert, PhxError } from '../../errors.js';
import { type Ballot, ballotFrom } from './ballot.js';
import { type Roster, readRoster, rosterBytes } from './roster.js';

const KIND_NOOP = 0;
const KIND_BATCH = 1;
const KIND_MEMBERS = 2;
const VERSION = 1;
const HEAD_BYTES = 16;
const LENGTH_BYTES = 4;

/** Place of one command inside a value. */
export interface CommandSlice {
  readonly offset: number;
  readonly length: number;
}

/** Bytes that `commandCount` commands add to their own length when they are batched into one value. */
export function valueOverheadBytes(commandCount: number): number {
  return HEAD_BYTES + LENGTH_BYTES * commandCount;
}

/** A value that leaves the state machines as they are: it fills an instance for which nothing was accepted. */
export function noopValue(origin: Ballot): Uint8Array {
  return head(KIND_NOOP, 0, origin, HEAD_BYTES);
}

/** A batch: each command is given as parts, which are concatenated. */
export function batchValue(origin: Ballot, commands: readonly (readonly Uint8Array[])[]): Uint8Array {
  const lengths = commands.map((parts) => parts.reduce((sum, part) => sum + part.length, 0));
  const size = lengths.reduce((sum, length) => sum + length, valueOverheadBytes(commands.length));
  const value = head(KIND_BATCH, commands.length, origin, size);
  const view = new DataView(value.buffer);
  lengths.forEach((length, index) => {
    view.setUint32(HEAD_BYTES + index * LENGTH_BYTES, length, true);
  });
  let offset = valueOverheadBytes(commands.length);
  for (const parts of commands) {
    for (const part of parts) {
      value.set(part, offset);
      offset += part.length;
    }
  }
  assert(offset === size, 'a batch fills its value exactly');
  return value;
}

/** The members from MEMBERS_DELAY instances later on. */
export function membersValue(origin: Ballot, roster: Roster): Uint8Array {
  const body = rosterBytes(roster);
  const value = head(KIND_MEMBERS, roster.members.length, origin, HEAD_BYTES + body.length);
  value.set(body, HEAD_BYTES);
  return value;
}

/** What a members value says, null for other values. Throws LOG_CORRUPT for one that cannot be read. */
export function rosterOf(value: Uint8Array): Roster | null {
  if (value[0] !== KIND_MEMBERS || value[1] !== VERSION) return null;
  const roster = readRoster(value.subarray(HEAD_BYTES), viewOf(value).getUint32(4, true));
  if (roster === null) throw new PhxError('LOG_CORRUPT', 'a list of members that cannot be read');
  return roster;
}

/** The ballot under which a value was first proposed. At one instance no two values have the same origin. */
export function originOf(value: Uint8Array): Ballot {
  return ballotFrom(Number(viewOf(value).getBigUint64(8, true)));
}

/**
 * Finds the commands of a value; a members value has none. Throws LOG_FORMAT for a kind or version that this
 * release does not know, LOG_CORRUPT. */
export function commandsOf(value: Uint8Array): CommandSlice[] {
  const view = viewOf(value);
  const kind = view.getUint8(0);
  const version = view.getUint8(1);
  if (kind > KIND_MEMBERS || version !== VERSION) {
    throw new PhxError(
      'LOG_FORMAT',
      `value of unknown kind ${kind} version ${version}: was it written by a newer release?`,
    );
  }
  if (kind === KIND_MEMBERS) return [];
  const count = view.getUint32(4, true);
  const slices: CommandSlice[] = [];
  let offset = valueOverheadBytes(count);
  for (let index = 0; index < count; index += 1) {
    const length = view.getUint32(HEAD_BYTES + index * LENGTH_BYTES, true);
    slices.push({ offset, length });
    offset += length;
  }
  if (offset !== value.length) throw new PhxError('LOG_CORRUPT', 'the commands of a value do not fill it');
  return slices;
}

/**
 * Whether a value may be accepted: false for bytes that no release writes. One of an unknown kind or version may be, and
 * stops the replica when it is applied.
 */
export function isAcceptable(value: Uint8Array): boolean {
  if (value.length < HEAD_BYTES) return false;
  const kind = value[0] ?? 0;
  if (kind > KIND_MEMBERS || value[1] !== VERSION) return true;
  const view = viewOf(value);
  const count = view.getUint32(4, true);
  if (kind === KIND_MEMBERS) return readRoster(value.subarray(HEAD_BYTES), count) !== null;
  let bytes = valueOverheadBytes(count);
  if (bytes > value.length) return false;
  for (let index = 0; index < count; index += 1) bytes += view.getUint32(HEAD_BYTES + index * LENGTH_BYTES, true);
  return bytes === value.length;
}

function head(kind: number, count: number, origin: Ballot, size: number): Uint8Array {
  const value = new Uint8Array(size);
  const view = new DataView(value.buffer);
  view.setUint8(0, kind);
  view.setUint8(1, VERSION);
  view.setUint32(4, count, true);
  view.setBigUint64(8, BigInt(origin), true);
  return value;
}

function viewOf(value: Uint8Array): DataView {
  if (value.length < HEAD_BYTES) throw new PhxError('LOG_CORRUPT', `value of ${value.length} bytes is too short`);
  return new DataView(value.buffer, value.byteOffset, value.byteLength);
}
