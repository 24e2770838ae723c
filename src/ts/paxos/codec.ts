/**
 * The bytes of messages between replicas (docs/internals/paxos.md, "Transport"). A message is a fixed head and, for
 * values, their bytes: they are sent from where they lie and received as views of the frame. All integers little-endian.
 */
import { PhxError } from '../errors.js';
import { type Ballot, ballotFrom } from './core/ballot.js';
import type { AcceptedEntry, Message } from './core/types.js';
import {
  decodeSnapshotMessage,
  encodeSnapshotMessage,
  isSnapshotMessage,
  type SnapshotMessage,
} from './snapshot_messages.js';

/** What replicas tell each other: words of the protocol, and checkpoints that travel. */
export type PeerMessage = Message | SnapshotMessage;

const SNAPSHOT = 'snapshot';
const TYPES = [
  'pre_vote',
  'pre_vote_reply',
  'prepare',
  'promise',
  'accept',
  'accepted',
  'reject',
  'heartbeat',
  'heartbeat_reply',
  'fetch',
  'learn',
  'diverged',
  'release',
  'take_over',
  'removed',
  SNAPSHOT,
] as const satisfies readonly (Message['type'] | typeof SNAPSHOT)[];

/** Bytes before the fields of each message: u32 length of what follows, u32 group, u16 from, u16 to, u8 type. */
const HEAD_BYTES = 13;
const ENTRY_HEAD_BYTES = 20;

/** A message of one group, and between which of its members it goes: ids, 0 for a sender that has none yet. */
export interface GroupMessage {
  readonly group: number;
  readonly from: number;
  readonly to: number;
  readonly message: PeerMessage;
}

/** The message as parts, to be sent one after the other. */
export function encodeMessage(envelope: GroupMessage): Uint8Array[] {
  const { message } = envelope;
  if (isSnapshotMessage(message)) {
    const fields = new Fields(envelope, TYPES.indexOf(SNAPSHOT));
    for (const part of encodeSnapshotMessage(message)) fields.bytes(part);
    return fields.finish();
  }
  const fields = new Fields(envelope, TYPES.indexOf(message.type));
  switch (message.type) {
    case 'pre_vote':
      fields.u64(message.round).u64(message.chosen_through);
      break;
    case 'pre_vote_reply':
      fields
        .u64(message.round)
        .u64(message.granted ? 1 : 0)
        .u64(message.promised);
      break;
    case 'prepare':
    case 'release':
    case 'take_over':
      fields.u64(message.ballot);
      break;
    case 'promise':
      fields.u64(message.ballot).u64(message.chosen_through).entries(message.entries);
      break;
    case 'accept':
      fields.u64(message.ballot).u64(message.instance).u64(message.chosen_through).bytes(message.value);
      break;
    case 'accepted':
      fields.u64(message.ballot).u64(message.instances.length);
      for (const instance of message.instances) fields.u64(instance);
      break;
    case 'reject':
      fields.u64(message.ballot).u64(message.promised);
      break;
    case 'heartbeat':
      fields
        .u64(message.ballot)
        .u64(message.chosen_through)
        .u64(message.applied_through)
        .f64(message.sent_at_ms)
        .f64(message.lease_ms);
      break;
    case 'heartbeat_reply':
      fields
        .u64(message.ballot)
        .f64(message.sent_at_ms)
        .u64(message.granted ? 1 : 0)
        .u64(message.instance)
        .u64(message.chain);
      break;
    case 'fetch':
      fields.u64(message.from).u64(message.through);
      break;
    case 'learn':
      fields.entries(message.entries);
      break;
    case 'diverged':
      fields.u64(message.instance).u64(message.chain);
      break;
    case 'removed':
      break;
  }
  return fields.finish();
}

/** Reads the messages of a frame. Throws PROTOBUF_PARSE when the bytes are not whole messages of this version. */
export function* decodeMessages(frame: Uint8Array): Generator<GroupMessage> {
  const reader = new Reader(frame);
  while (!reader.done) {
    const length = reader.u32();
    const end = reader.offset + length;
    const group = reader.u32();
    const from = reader.u16();
    const to = reader.u16();
    const message = decodeFields(reader, reader.u8(), end);
    if (reader.offset !== end) throw malformed('a message does not end where its length says');
    yield { group, from, to, message };
  }
}

function decodeFields(reader: Reader, typeIndex: number, end: number): PeerMessage {
  const type = TYPES[typeIndex];
  if (type === undefined) throw malformed(`unknown message type ${typeIndex}`);
  switch (type) {
    case 'pre_vote':
      return { type, round: reader.u64(), chosen_through: reader.u64() };
    case 'pre_vote_reply':
      return { type, round: reader.u64(), granted: reader.u64() === 1, promised: reader.ballot() };
    case 'prepare':
    case 'release':
    case 'take_over':
      return { type, ballot: reader.ballot() };
    case 'promise':
      return { type, ballot: reader.ballot(), chosen_through: reader.u64(), entries: reader.entries(end) };
    case 'accept':
      return {
        type,
        ballot: reader.ballot(),
        instance: reader.u64(),
        chosen_through: reader.u64(),
        value: reader.bytesUntil(end),
      };
    case 'accepted': {
      const ballot = reader.ballot();
      const count = reader.u64();
      if (count * 8 !== end - reader.offset) throw malformed('a list of instances of the wrong length');
      return { type, ballot, instances: Array.from({ length: count }, () => reader.u64()) };
    }
    case 'reject':
      return { type, ballot: reader.ballot(), promised: reader.ballot() };
    case 'heartbeat':
      return {
        type,
        ballot: reader.ballot(),
        chosen_through: reader.u64(),
        applied_through: reader.u64(),
        sent_at_ms: reader.f64(),
        lease_ms: reader.f64(),
      };
    case 'heartbeat_reply':
      return {
        type,
        ballot: reader.ballot(),
        sent_at_ms: reader.f64(),
        granted: reader.u64() === 1,
        instance: reader.u64(),
        chain: reader.u64(),
      };
    case 'fetch':
      return { type, from: reader.u64(), through: reader.u64() };
    case 'learn':
      return { type, entries: reader.entries(end) };
    case 'diverged':
      return { type, instance: reader.u64(), chain: reader.u64() };
    case 'removed':
      return { type };
    case SNAPSHOT:
      return decodeSnapshotMessage(reader.bytesUntil(end));
  }
}

/** Collects the fields of one message; values stay where they are. */
class Fields {
  static readonly #SCRATCH_BYTES = 64;
  readonly #parts: Uint8Array[] = [];
  #scratch = new DataView(new ArrayBuffer(Fields.#SCRATCH_BYTES));
  #used = HEAD_BYTES;
  #length = 0;
  readonly #first = this.#scratch;

  constructor({ group, from, to }: GroupMessage, type: number) {
    this.#scratch.setUint32(4, group, true);
    this.#scratch.setUint16(8, from, true);
    this.#scratch.setUint16(10, to, true);
    this.#scratch.setUint8(12, type);
  }

  u64(value: number): this {
    this.#reserve(8).setBigUint64(this.#used, BigInt(value), true);
    this.#used += 8;
    return this;
  }

  f64(value: number): this {
    this.#reserve(8).setFloat64(this.#used, value, true);
    this.#used += 8;
    return this;
  }

  bytes(value: Uint8Array): this {
    this.#cut();
    this.#parts.push(value);
    this.#length += value.length;
    return this;
  }

  entries(entries: readonly AcceptedEntry[]): void {
    for (const { instance, ballot, value } of entries) {
      this.u64(instance).u64(ballot);
      this.#reserve(4).setUint32(this.#used, value.length, true);
      this.#used += 4;
      this.bytes(value);
    }
  }

  finish(): Uint8Array[] {
    this.#cut();
    this.#first.setUint32(0, this.#length - 4, true);
    return this.#parts;
  }

  #reserve(bytes: number): DataView {
    if (this.#used + bytes > this.#scratch.byteLength) this.#cut();
    return this.#scratch;
  }

  #cut(): void {
    if (this.#used === 0) return;
    this.#parts.push(new Uint8Array(this.#scratch.buffer, 0, this.#used));
    this.#length += this.#used;
    this.#scratch = new DataView(new ArrayBuffer(Fields.#SCRATCH_BYTES));
    this.#used = 0;
  }
}

/** Reads fields, refusing to go beyond the end. */
class Reader {
  offset = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get done(): boolean {
    return this.offset === this.#bytes.length;
  }

  u8(): number {
    return this.#view.getUint8(this.#advance(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#advance(2), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#advance(4), true);
  }

  u64(): number {
    const offset = this.#advance(8);
    const high = this.#view.getUint32(offset + 4, true);
    if (high >= 0x200000) throw malformed('a number beyond 2^53');
    return high * 2 ** 32 + this.#view.getUint32(offset, true);
  }

  f64(): number {
    return this.#view.getFloat64(this.#advance(8), true);
  }

  ballot(): Ballot {
    return ballotFrom(this.u64());
  }

  bytesUntil(end: number): Uint8Array {
    const start = this.#advance(end - this.offset);
    return this.#bytes.subarray(start, end);
  }

  entries(end: number): AcceptedEntry[] {
    const entries: AcceptedEntry[] = [];
    while (this.offset < end) {
      if (end - this.offset < ENTRY_HEAD_BYTES) throw malformed('a cut entry');
      const instance = this.u64();
      const ballot = this.ballot();
      const length = this.u32();
      entries.push({ instance, ballot, value: this.bytesUntil(this.offset + length) });
    }
    return entries;
  }

  #advance(bytes: number): number {
    const start = this.offset;
    if (bytes < 0 || start + bytes > this.#bytes.length) throw malformed('a message is cut short');
    this.offset = start + bytes;
    return start;
  }
}

function malformed(what: string): PhxError {
  return new PhxError('PROTOBUF_PARSE', `replica message: ${what}`);
}
