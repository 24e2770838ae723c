/**
 * What a checkpoint of a group is, and the bytes of its record (docs/on-disk-format.md, "Checkpoints"). The payload lies in
 * the log as chunks, which are entries of a shadow group; the record, a state record of the group itself, names them and
 * makes them valid. Whoever holds the payload can put the state machine where it stood after `instance`.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { assert, PhxError } from '../errors.js';

/** Slot of the state record that makes a checkpoint valid. */
export const SLOT_CHECKPOINT = 2;
/** Bytes of one chunk; only the last one is shorter. */
export const CHUNK_BYTES = 1024 * 1024;
/** Bytes of a whole payload: it is held in memory when it is read. */
export const CHECKPOINT_BYTES_MAX = 256 * 1024 * 1024;
/** Groups of the protocol lie below, their shadow groups above. */
export const SHADOW_GROUP_FIRST = 2 ** 31;

/** Bytes that are summed before others get their turn. */
const TURN_BYTES = 1024 * 1024;
const VERSION = 1;
const RECORD_BYTES = 88;
const CHECKSUM_AT = RECORD_BYTES - 4;

/** What identifies a checkpoint among those of a group, on all replicas. */
export interface CheckpointId {
  readonly instance: number;
  /** CRC-32 of the payload. */
  readonly checksum: number;
}

/** What a checkpoint says besides its payload, wherever it lies. */
export interface CheckpointHead extends CheckpointId {
  /** The checksum chain of the values up to `instance`. */
  readonly chain: number;
  /** The instances from here to `instance` are read again to index what they hold; `instance` + 1 if there are none. */
  readonly first_needed: number;
  /** The payload is these three sections, one after the other. */
  readonly configurations_bytes: number;
  readonly state_bytes: number;
  readonly retention_bytes: number;
  /** CRC-32 of the state alone: equal on all replicas that make a checkpoint at this instance. */
  readonly state_checksum: number;
}

/** A checkpoint as its record describes it. */
export interface CheckpointRecord extends CheckpointHead {
  /** Entries of the group below are not needed, and may be gone. At most `first_needed`. */
  readonly first_retained: number;
  /**
   * Entries up to here were applied by this replica before it had the checkpoint. Those above, up to `instance`, may be of
   * old ballots and never chosen, where the checkpoint came from a peer: they count only if they say that they are chosen.
   */
  readonly own_through: number;
  /** Numbers of the chunks, `last_chunk` included. They rise over the life of the log and are never used twice. */
  readonly first_chunk: number;
  readonly last_chunk: number;
}

/** The sections of a payload. */
export interface CheckpointPayload {
  /** What the protocol core needs to know of the members; opaque here. */
  readonly configurations: Uint8Array;
  /** The replicated state. */
  readonly state: Uint8Array;
  /** What the replica that wrote it retains; it depends on configuration. */
  readonly retention: Uint8Array;
}

/** The group whose entries are the chunks of the checkpoints of `group`. */
export function shadowGroupOf(group: number): number {
  assert(group < SHADOW_GROUP_FIRST - 2, 'the highest groups are reserved');
  return group + SHADOW_GROUP_FIRST;
}

export function payloadBytes(head: CheckpointHead): number {
  return head.configurations_bytes + head.state_bytes + head.retention_bytes;
}

/** CRC-32 of parts that follow each other; about a millisecond of each turn of the event loop goes into it. */
export async function checksumOf(parts: readonly Uint8Array[]): Promise<number> {
  let checksum = 0;
  let left = TURN_BYTES;
  for (const part of parts) {
    for (let at = 0; at < part.length; ) {
      const slice = part.subarray(at, at + left);
      checksum = crc32(slice, checksum);
      at += slice.length;
      left -= slice.length;
      if (left > 0) continue;
      await nextTurn();
      left = TURN_BYTES;
    }
  }
  return checksum;
}

/** Whether two name the same checkpoint. */
export function sameCheckpoint(a: CheckpointId, b: CheckpointId): boolean {
  return a.instance === b.instance && a.checksum === b.checksum;
}

/**
 * Cuts the payload into its sections (views) and verifies both checksums. Rejects with LOG_CORRUPT if the bytes are not
 * those that `head` describes.
 */
export async function payloadOf(head: CheckpointHead, bytes: Uint8Array): Promise<CheckpointPayload> {
  const state_at = head.configurations_bytes;
  const retention_at = state_at + head.state_bytes;
  const state = bytes.subarray(state_at, retention_at);
  const whole = bytes.length === payloadBytes(head) && (await checksumOf([bytes])) === head.checksum;
  if (!whole || (await checksumOf([state])) !== head.state_checksum) {
    throw new PhxError('LOG_CORRUPT', `the checkpoint of instance ${head.instance} does not match its checksum`);
  }
  return { configurations: bytes.subarray(0, state_at), state, retention: bytes.subarray(retention_at) };
}

/** The record as bytes. */
export function encodeRecord(record: CheckpointRecord): Uint8Array {
  const bytes = new Uint8Array(RECORD_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, VERSION, true);
  view.setUint32(4, record.chain, true);
  const { instance, first_needed, first_retained, own_through, first_chunk, last_chunk } = record;
  for (const [i, value] of [instance, first_needed, first_retained, own_through, first_chunk, last_chunk].entries()) {
    view.setBigUint64(8 + 8 * i, BigInt(value), true);
  }
  view.setUint32(56, record.configurations_bytes, true);
  view.setUint32(60, record.state_bytes, true);
  view.setUint32(64, record.retention_bytes, true);
  view.setUint32(68, record.state_checksum, true);
  view.setUint32(72, record.checksum, true);
  view.setUint32(CHECKSUM_AT, crc32(bytes.subarray(0, CHECKSUM_AT)), true);
  return bytes;
}

/** Reads a record. Throws LOG_CORRUPT if it is damaged or contradicts itself, LOG_FORMAT if it is of a newer version. */
export function decodeRecord(bytes: Uint8Array): CheckpointRecord {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = bytes.length < 2 ? 0 : view.getUint16(0, true);
  if (version > VERSION) {
    const what = `the record of a checkpoint is of version ${version}: was it written by a newer release?`;
    throw new PhxError('LOG_FORMAT', what);
  }
  if (
    version !== VERSION ||
    bytes.length !== RECORD_BYTES ||
    view.getUint32(CHECKSUM_AT, true) !== crc32(bytes.subarray(0, CHECKSUM_AT))
  ) {
    throw corrupt('does not match its checksum');
  }
  const u64 = (at: number): number => Number(view.getBigUint64(at, true));
  const record = {
    chain: view.getUint32(4, true),
    instance: u64(8),
    first_needed: u64(16),
    first_retained: u64(24),
    own_through: u64(32),
    first_chunk: u64(40),
    last_chunk: u64(48),
    configurations_bytes: view.getUint32(56, true),
    state_bytes: view.getUint32(60, true),
    retention_bytes: view.getUint32(64, true),
    state_checksum: view.getUint32(68, true),
    checksum: view.getUint32(72, true),
  };
  const { instance, first_needed, first_retained, own_through, first_chunk, last_chunk } = record;
  const ordered = first_retained <= first_needed && first_needed <= instance + 1 && own_through <= instance;
  const chunks = Math.ceil(payloadBytes(record) / CHUNK_BYTES);
  if (!ordered || payloadBytes(record) > CHECKPOINT_BYTES_MAX || last_chunk - first_chunk + 1 !== chunks) {
    throw corrupt('contradicts itself');
  }
  return record;
}

function corrupt(what: string): PhxError {
  return new PhxError('LOG_CORRUPT', `the record of a checkpoint ${what}`);
}
