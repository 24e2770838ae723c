/**
 * What replicas tell each other while a checkpoint travels, and the bytes of it: u8 type, then the fields in the order of the
 * types below, each u64 little-endian, at the end the bytes of the part.
 */
import { PhxError } from '../errors.js';
import { CHECKPOINT_BYTES_MAX, type CheckpointHead, type CheckpointId, payloadBytes } from './checkpoint.js';

/** Most bytes of one part. */
export const PART_BYTES = 256 * 1024;

export type SnapshotMessage =
  /** Sender: what you need is no longer in my log; this checkpoint can be had. */
  | { readonly type: 'snapshot_offer'; readonly head: CheckpointHead }
  /** Receiver: send me the part at `offset` of its payload. One behind the last byte says: I have it all. */
  | { readonly type: 'snapshot_fetch'; readonly id: CheckpointId; readonly offset: number }
  /** Sender: the part; `checksum` is the CRC-32 of its bytes. */
  | {
      readonly type: 'snapshot_part';
      readonly id: CheckpointId;
      readonly offset: number;
      readonly checksum: number;
      readonly bytes: Uint8Array;
    };

const TYPES = [
  'snapshot_offer',
  'snapshot_fetch',
  'snapshot_part',
] as const satisfies readonly SnapshotMessage['type'][];

/** Whether it belongs to a transfer, not to the protocol. */
export function isSnapshotMessage(message: { readonly type: string }): message is SnapshotMessage {
  return TYPES.some((type) => type === message.type);
}

/** The message as parts, to be sent one after the other; the bytes of a part stay where they are. */
export function encodeSnapshotMessage(message: SnapshotMessage): Uint8Array[] {
  switch (message.type) {
    case 'snapshot_offer': {
      const { instance, checksum, chain, first_needed, state_checksum } = message.head;
      const { configurations_bytes, state_bytes, retention_bytes } = message.head;
      const sizes = [configurations_bytes, state_bytes, retention_bytes];
      return [fields(message.type, [instance, checksum, chain, first_needed, ...sizes, state_checksum])];
    }
    case 'snapshot_fetch':
      return [fields(message.type, [message.id.instance, message.id.checksum, message.offset])];
    case 'snapshot_part': {
      const { id, offset, checksum, bytes } = message;
      return [fields(message.type, [id.instance, id.checksum, offset, checksum]), bytes];
    }
  }
}

/** Reads a message; a part is a view. Throws PROTOBUF_PARSE for what no release sends. */
export function decodeSnapshotMessage(bytes: Uint8Array): SnapshotMessage {
  const number: number = bytes[0] ?? TYPES.length;
  const type = TYPES[number];
  if (type === undefined) throw malformed('an unknown type');
  switch (type) {
    case 'snapshot_offer': {
      const [instance = 0, checksum = 0, chain = 0, first_needed = 0, ...rest] = numbers(bytes, 8, false);
      const [configurations_bytes = 0, state_bytes = 0, retention_bytes = 0, state_checksum = 0] = rest;
      const sizes = { configurations_bytes, state_bytes, retention_bytes };
      const head = { instance, checksum, chain, first_needed, ...sizes, state_checksum };
      if (payloadBytes(head) > CHECKPOINT_BYTES_MAX) throw malformed('too large a checkpoint');
      if (instance < 1 || first_needed < 1 || first_needed > instance + 1) throw malformed('a checkpoint of nothing');
      return { type, head };
    }
    case 'snapshot_fetch': {
      const [instance = 0, checksum = 0, offset = 0] = numbers(bytes, 3, false);
      return { type, id: { instance, checksum }, offset };
    }
    case 'snapshot_part': {
      const [instance = 0, id_checksum = 0, offset = 0, checksum = 0] = numbers(bytes, 4, true);
      return { type, id: { instance, checksum: id_checksum }, offset, checksum, bytes: bytes.subarray(1 + 4 * 8) };
    }
  }
}

function fields(type: SnapshotMessage['type'], values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(1 + 8 * values.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, TYPES.indexOf(type));
  for (const [i, value] of values.entries()) view.setBigUint64(1 + 8 * i, BigInt(value), true);
  return bytes;
}

function numbers(bytes: Uint8Array, count: number, more: boolean): number[] {
  const end = 1 + 8 * count;
  if (bytes.length < end || (bytes.length > end && !more)) throw malformed('a wrong length');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: count }, (_, i) => {
    const value = view.getBigUint64(1 + 8 * i, true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw malformed('a number beyond 2^53');
    return Number(value);
  });
}

function malformed(what: string): PhxError {
  return new PhxError('PROTOBUF_PARSE', `snapshot message: ${what}`);
}
