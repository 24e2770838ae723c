/**
 * The commands that the stores replicate, as bytes. All integers are little-endian.
 *
 *   every command  kind u8 | version u8 | ...
 *   ADD            kind 1 | version 1 | timestamp_ms u64 | the body of the Add request as it came over HTTP
 *   CURSORS        kind 2 | version 1 | count u32 | count x (queue_id i32, consumer_group u8, prev u64)
 *
 * A replica that does not know a kind or version stops: to skip a command would make it differ from the others.
 */
import { assert } from '../errors.js';

/** Kinds of commands. A number is never used again for something else. */
export const CommandKind = { add: 1, cursors: 2 } as const;
const command_version = 1;
const add_header_bytes = 10;
const cursors_header_bytes = 6;
const cursor_update_bytes = 13;

/** Most updates in one CURSORS command (about 52 KiB). */
export const cursor_updates_max = 4096;

/** The items of one Add request. */
export interface AddCommand {
  readonly kind: typeof CommandKind.add;
  /** Wall clock of the proposer. */
  readonly timestamp_ms: number;
  /** View of the Add request's bytes. */
  readonly body: Uint8Array;
  /** Where `body` starts in the command. */
  readonly body_offset: number;
}

/** A consumer group acknowledged all items of a queue up to `prev`. */
export interface CursorUpdate {
  readonly queue_id: number;
  readonly consumer_group: number;
  readonly prev: number;
}

/** Acknowledgements of some queues of a Paxos group. */
export interface CursorsCommand {
  readonly kind: typeof CommandKind.cursors;
  readonly updates: readonly CursorUpdate[];
}

/** ADD as the parts of a proposal; the body is not copied. */
export function encodeAdd(timestamp_ms: number, body: Uint8Array): Uint8Array[] {
  const header = Buffer.alloc(add_header_bytes);
  header.writeUInt8(CommandKind.add, 0);
  header.writeUInt8(command_version, 1);
  header.writeBigUInt64LE(BigInt(timestamp_ms), 2);
  return [header, body];
}

/** CURSORS as the parts of a proposal; takes at most `cursor_updates_max` updates. */
export function encodeCursors(updates: readonly CursorUpdate[]): Uint8Array[] {
  assert(updates.length <= cursor_updates_max, 'a CURSORS command is bounded');
  const bytes = Buffer.alloc(cursors_header_bytes + updates.length * cursor_update_bytes);
  bytes.writeUInt8(CommandKind.cursors, 0);
  bytes.writeUInt8(command_version, 1);
  bytes.writeUInt32LE(updates.length, 2);
  let at = cursors_header_bytes;
  for (const update of updates) {
    bytes.writeInt32LE(update.queue_id, at);
    bytes.writeUInt8(update.consumer_group, at + 4);
    bytes.writeBigUInt64LE(BigInt(update.prev), at + 5);
    at += cursor_update_bytes;
  }
  return [bytes];
}

/** Reads a command. An unknown or damaged one fails an assertion, which stops the process. */
export function decodeCommand(bytes: Uint8Array): AddCommand | CursorsCommand {
  const defect = commandDefect(bytes);
  assert(defect === null, defect ?? 'a command is sound');
  const view = viewOf(bytes);
  return view.readUInt8(0) === CommandKind.add ? decodeAdd(view) : decodeCursors(view);
}

/** Why a command cannot be read, or null if it can. */
export function commandDefect(bytes: Uint8Array): string | null {
  const view = viewOf(bytes);
  if (view.length < 2) return 'a command has a kind and a version';
  const kind = view.readUInt8(0);
  const version = view.readUInt8(1);
  if ((kind !== CommandKind.add && kind !== CommandKind.cursors) || version !== command_version) {
    return `command of kind ${kind} version ${version} is unknown here: a newer program wrote it`;
  }
  if (kind === CommandKind.add) return view.length > add_header_bytes ? null : 'an ADD command has a body';
  if (view.length < cursors_header_bytes) return 'a CURSORS command has a count';
  const bytes_expected = cursors_header_bytes + view.readUInt32LE(2) * cursor_update_bytes;
  return view.length === bytes_expected ? null : 'a CURSORS command has its length';
}

function viewOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function decodeAdd(view: Buffer): AddCommand {
  return {
    kind: CommandKind.add,
    timestamp_ms: Number(view.readBigUInt64LE(2)),
    body: view.subarray(add_header_bytes),
    body_offset: add_header_bytes,
  };
}

function decodeCursors(view: Buffer): CursorsCommand {
  const updates: CursorUpdate[] = [];
  for (let at = cursors_header_bytes; at < view.length; at += cursor_update_bytes) {
    updates.push({
      queue_id: view.readInt32LE(at),
      consumer_group: view.readUInt8(at + 4),
      prev: Number(view.readBigUInt64LE(at + 5)),
    });
  }
  return { kind: CommandKind.cursors, updates };
}
