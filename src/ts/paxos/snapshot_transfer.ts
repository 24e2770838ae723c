/**
 * Brings a checkpoint to a replica that needs instances which the logs of the others no longer have. The sender offers its
 * newest one, the receiver fetches it part by part, one part under way at a time, and makes it its own. The entries that the
 * checkpoint needs are not part of it; they are fetched as others are. Neither side has timers: `tick` gives them the time.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { PhxError } from '../errors.js';
import {
  type CheckpointHead,
  type CheckpointPayload,
  type CheckpointRecord,
  payloadBytes,
  payloadOf,
  sameCheckpoint,
} from './checkpoint.js';
import type { CheckpointPin, CheckpointStore } from './checkpoint_store.js';
import { placeOf } from './places.js';
import { PART_BYTES, type SnapshotMessage } from './snapshot_messages.js';

/** Sends a message to a replica; it may be lost. */
export type SendSnapshotMessage = (to: number, group: number, message: SnapshotMessage) => void;

export interface SnapshotSenderOptions {
  /** Most bytes of one part, at most PART_BYTES. */
  readonly part_bytes_max: number;
  /** Bytes of checkpoints that leave this replica in a second, to all others together. */
  readonly bytes_per_s: number;
  /** A receiver that asks for nothing in this time is given up: the checkpoint is no longer kept for it. */
  readonly idle_timeout_ms: number;
}

/** Bytes may leave ahead of their second by so much: what is asked for between two ticks does not wait for the next. */
const AHEAD_MS = 50;

export const DEFAULT_SNAPSHOT_SENDER_OPTIONS: SnapshotSenderOptions = {
  part_bytes_max: PART_BYTES,
  bytes_per_s: 32 * 1024 * 1024,
  idle_timeout_ms: 30_000,
};

/** A checkpoint on its way to one replica. */
interface Stream {
  readonly to: number;
  readonly group: number;
  readonly pin: CheckpointPin;
  /** When it was last asked for a part, or sent one. */
  active_at_ms: number;
  /** Where the part that was asked for begins; null while nothing is asked for. */
  offset: number | null;
  reading: boolean;
}

export class SnapshotSender {
  readonly #store: CheckpointStore;
  readonly #send: SendSnapshotMessage;
  readonly #onUnreadable: (group: number, error: unknown) => void;
  readonly #options: SnapshotSenderOptions;
  readonly #streams = new Map<string, Stream>();
  #free_at_ms = Number.NEGATIVE_INFINITY;

  /** `onUnreadable`: the own checkpoint is damaged. */
  constructor(
    store: CheckpointStore,
    send: SendSnapshotMessage,
    onUnreadable: (group: number, error: unknown) => void,
    options = DEFAULT_SNAPSHOT_SENDER_OPTIONS,
  ) {
    this.#store = store;
    this.#send = send;
    this.#onUnreadable = onUnreadable;
    this.#options = options;
  }

  /** Streams that keep a checkpoint from being truncated. */
  get streams(): number {
    return this.#streams.size;
  }

  /** Offers a replica the checkpoint that is on its way to it, else the newest one. False if there is none. */
  offer(to: number, group: number, now_ms: number): boolean {
    const stream = this.#streams.get(keyOf(to, group)) ?? this.#begin(to, group, now_ms);
    if (stream === null) return false;
    this.#send(to, group, { type: 'snapshot_offer', head: stream.pin.record });
    return true;
  }

  /** A receiver asks for a part, or says that it has all. */
  onFetch(from: number, group: number, message: SnapshotMessage & { type: 'snapshot_fetch' }, now_ms: number): void {
    const { id, offset } = message;
    let stream = this.#streams.get(keyOf(from, group)) ?? null;
    if (stream === null) {
      // It was given up, or this replica was started again; the very checkpoint may still be there.
      const record = this.#store.record(group);
      stream = record !== null && sameCheckpoint(record, id) ? this.#begin(from, group, now_ms) : null;
    }
    if (stream === null || !sameCheckpoint(stream.pin.record, id)) {
      this.offer(from, group, now_ms);
      return;
    }
    stream.active_at_ms = now_ms;
    if (offset >= payloadBytes(stream.pin.record)) {
      this.#end(stream);
      return;
    }
    stream.offset = offset;
    this.#serve(stream, now_ms);
  }

  /** Sends what the limit held back, gives up receivers that are gone. */
  tick(now_ms: number): void {
    for (const stream of this.#streams.values()) {
      // One that was asked for a part waits for the limit, not for the receiver.
      const idle = stream.offset === null && !stream.reading;
      if (idle && now_ms - stream.active_at_ms >= this.#options.idle_timeout_ms) this.#end(stream);
      else this.#serve(stream, now_ms);
    }
  }

  /** Keeps nothing for anybody any more. */
  close(): void {
    for (const stream of this.#streams.values()) this.#end(stream);
  }

  #begin(to: number, group: number, now_ms: number): Stream | null {
    const pin = this.#store.pin(group);
    if (pin === null) return null;
    const stream = { to, group, pin, active_at_ms: now_ms, offset: null, reading: false };
    this.#streams.set(keyOf(to, group), stream);
    return stream;
  }

  #end({ to, group, pin }: Stream): void {
    this.#streams.delete(keyOf(to, group));
    pin.release();
  }

  #serve(stream: Stream, now_ms: number): void {
    const { offset, pin } = stream;
    if (offset === null || stream.reading || now_ms + AHEAD_MS < this.#free_at_ms) return;
    const bytes = Math.min(this.#options.part_bytes_max, payloadBytes(pin.record) - offset);
    this.#free_at_ms = Math.max(now_ms, this.#free_at_ms) + (bytes * 1_000) / this.#options.bytes_per_s;
    stream.offset = null;
    stream.active_at_ms = now_ms;
    stream.reading = true;
    this.#sendPart(stream, offset, bytes)
      .catch((error: unknown) => {
        if (this.#streams.get(keyOf(stream.to, stream.group)) !== stream) return;
        this.#onUnreadable(stream.group, error);
        this.#end(stream);
      })
      .finally(() => {
        stream.reading = false;
      });
  }

  async #sendPart({ to, group, pin }: Stream, offset: number, bytes_max: number): Promise<void> {
    const bytes = Buffer.concat(await this.#store.readAt(group, pin.record, offset, bytes_max));
    const { instance, checksum } = pin.record;
    const id = { instance, checksum };
    this.#send(to, group, { type: 'snapshot_part', id, offset, checksum: crc32(bytes), bytes });
  }
}

export interface SnapshotReceiverOptions {
  /** A part that does not come in this time is asked for again. */
  readonly retry_ms: number;
  /** One of which nothing comes in this time gives way to another one that somebody else offers, */
  readonly gives_way_ms: number;
  /** and is given up after this time in any case. */
  readonly idle_timeout_ms: number;
}

export const DEFAULT_SNAPSHOT_RECEIVER_OPTIONS: SnapshotReceiverOptions = {
  retry_ms: 1_000,
  gives_way_ms: 3_000,
  idle_timeout_ms: 30_000,
};

export interface SnapshotReceiverParts {
  readonly store: CheckpointStore;
  readonly send: SendSnapshotMessage;
  /** Up to here this replica applied, or has a checkpoint that it waits to apply. */
  readonly appliedThrough: (group: number) => number;
  /**
   * The whole checkpoint of this instance is there, and is written once this resolves to true: the group stands still from
   * then on. False: it is of no use any more, or not now.
   */
  readonly prepare: (group: number, instance: number) => Promise<boolean>;
  /**
   * A checkpoint that came from this replica is durable as the own one. What it needs of the log may still be missing:
   * `restoreCheckpoint` tells, and restores the state machine once it is there.
   */
  readonly onInstalled: (group: number, from: number) => void;
  /** The log failed: the replica has to stop. */
  readonly onFailure: (error: unknown) => void;
  readonly warn: (message: string) => void;
}

export interface SnapshotProgress {
  readonly instance: number;
  readonly from: number;
  readonly have_bytes: number;
  readonly total_bytes: number;
}

/** Checkpoints that are collected at a time, of different groups: each is held in memory. */
export const COLLECTIONS_MAX = 4;

/** A checkpoint of which parts are there. */
interface Collection {
  readonly group: number;
  readonly head: CheckpointHead;
  readonly bytes: Uint8Array;
  have: number;
  from: number;
  asked_at_ms: number;
  came_at_ms: number;
  installing: boolean;
}

export class SnapshotReceiver {
  readonly #parts: SnapshotReceiverParts;
  readonly #options: SnapshotReceiverOptions;
  readonly #collections = new Map<number, Collection>();

  constructor(parts: SnapshotReceiverParts, options = DEFAULT_SNAPSHOT_RECEIVER_OPTIONS) {
    this.#parts = parts;
    this.#options = options;
  }

  /** How much of which checkpoint of a group came, and from whom; null while none comes. */
  progress(group: number): SnapshotProgress | null {
    const collection = this.#collections.get(group);
    if (collection === undefined) return null;
    const { head, from, have, bytes } = collection;
    return { instance: head.instance, from, have_bytes: have, total_bytes: bytes.length };
  }

  /** Takes up an offer: goes on with what it has of this checkpoint, or begins. */
  onOffer(from: number, group: number, head: CheckpointHead, now_ms: number): void {
    const known = this.#collections.get(group);
    if (known?.installing === true || head.instance <= this.#parts.appliedThrough(group)) return;
    if (known !== undefined && sameCheckpoint(known.head, head)) {
      // Offers are repeated while a transfer goes on.
      if (known.from === from && now_ms - known.asked_at_ms < this.#options.retry_ms) return;
      known.from = from;
      this.#ask(known, now_ms);
      return;
    }
    // Two senders offer different ones: what comes from the first goes on, while it comes.
    if (known !== undefined && known.from !== from && !this.#givesWay(known, now_ms)) return;
    if (known === undefined && this.#collections.size >= COLLECTIONS_MAX) return;
    const bytes = new Uint8Array(payloadBytes(head));
    const times = { asked_at_ms: now_ms, came_at_ms: now_ms };
    const collection = { group, head, bytes, have: 0, from, ...times, installing: false };
    this.#collections.set(group, collection);
    this.#goOn(collection, now_ms);
  }

  /** Takes a part in and asks for the next one. */
  onPart(from: number, group: number, message: SnapshotMessage & { type: 'snapshot_part' }, now_ms: number): void {
    const collection = this.#collections.get(group);
    const { id, offset, checksum, bytes } = message;
    if (collection === undefined || collection.installing || !sameCheckpoint(collection.head, id)) return;
    // Doubled or late, or from somebody else.
    if (collection.from !== from || offset !== collection.have || bytes.length === 0) return;
    if (bytes.length > collection.bytes.length - offset || crc32(bytes) !== checksum) {
      this.#parts.warn(`group ${group}: a damaged part of a checkpoint came from replica ${placeOf(from)}`);
      this.#ask(collection, now_ms);
      return;
    }
    collection.bytes.set(bytes, offset);
    collection.have += bytes.length;
    collection.came_at_ms = now_ms;
    this.#goOn(collection, now_ms);
  }

  /** Asks again for what did not come, gives up what nobody sends, tries again to write where the disk was full. */
  tick(now_ms: number): void {
    for (const collection of this.#collections.values()) {
      if (collection.installing) continue;
      const { group, head, have, bytes } = collection;
      const whole = have === bytes.length;
      const gone = !whole && now_ms - collection.came_at_ms >= this.#options.idle_timeout_ms;
      if (gone || head.instance <= this.#parts.appliedThrough(group)) this.#collections.delete(group);
      else if (now_ms - collection.asked_at_ms >= this.#options.retry_ms) this.#goOn(collection, now_ms);
    }
  }

  #givesWay({ came_at_ms }: Collection, now_ms: number): boolean {
    return now_ms - came_at_ms >= this.#options.gives_way_ms;
  }

  #goOn(collection: Collection, now_ms: number): void {
    if (collection.have < collection.bytes.length) {
      this.#ask(collection, now_ms);
      return;
    }
    collection.asked_at_ms = now_ms;
    collection.installing = true;
    this.#install(collection).catch((error: unknown) => this.#parts.onFailure(error));
  }

  #ask(collection: Collection, now_ms: number): void {
    const { group, head, have, from } = collection;
    collection.asked_at_ms = now_ms;
    const id = { instance: head.instance, checksum: head.checksum };
    this.#parts.send(from, group, { type: 'snapshot_fetch', id, offset: have });
  }

  async #install(collection: Collection): Promise<void> {
    const { group, head, from } = collection;
    const { store, send, prepare, onInstalled, warn } = this.#parts;
    // Not within the call that brought the last part.
    await nextTurn();
    try {
      const payload = await payloadOf(head, collection.bytes);
      if (!(await prepare(group, head.instance))) {
        this.#collections.delete(group);
        return;
      }
      await this.#write(group, head, payload);
      this.#collections.delete(group);
      send(from, group, {
        type: 'snapshot_fetch',
        id: { instance: head.instance, checksum: head.checksum },
        offset: collection.bytes.length,
      });
      onInstalled(group, from);
    } catch (error) {
      if (!(error instanceof PhxError)) throw error;
      if (error.retryable) {
        // No room: it is whole, a later tick writes it.
        collection.installing = false;
        return;
      }
      this.#collections.delete(group);
      if (error.code !== 'LOG_CORRUPT' || store.record(group)?.instance === head.instance) throw error;
      warn(`group ${group}: the checkpoint of replica ${placeOf(from)} is not what it said: ${error.message}`);
    }
  }

  #write(group: number, head: CheckpointHead, payload: CheckpointPayload): Promise<CheckpointRecord> {
    const { store, appliedThrough } = this.#parts;
    const { instance, chain, first_needed } = head;
    // Of what it needs nothing counts that does not say of itself that it is chosen: own entries may be truncated already.
    const own_through = Math.min(appliedThrough(group), first_needed - 1);
    const place = { instance, chain, first_needed, first_retained: first_needed, own_through };
    return store.write(group, {
      ...place,
      configurations: [payload.configurations],
      state: [payload.state],
      retention: [payload.retention],
    });
  }
}

function keyOf(to: number, group: number): string {
  return `${group} ${to}`;
}
