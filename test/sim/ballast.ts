/**
 * Entries and state records of a group of its own in a replica's log, appended and truncated as checkpoints are: they make
 * segments sparse and dead, and whatever was reported durable must be there after every start.
 */
import { PhxError } from '../../src/ts/errors.js';
import { type LogEngine, type LogRecord, RecordKind } from '../../src/ts/wal/engine.js';
import type { World } from './world.js';

const GROUP = 2 ** 30;
/** State records that are written over now and then: some of them live in old segments. */
const SLOTS = 24;
const SLOTS_PER_APPEND = 3;
const ENTRY_BYTES_MAX = 8_000;
/** Entries that are kept at least, and at most before the rest is truncated. */
const KEPT_MIN = 2;
const KEPT_MAX = 24;

/** What a machine's disk must hold. */
export class BallastLedger {
  /** Bytes of the entries that are durable. */
  readonly durable = new Map<number, number>();
  /** By slot, the number in the state record that is durable. */
  readonly states = new Map<number, number>();
  /** Entries below may be gone. */
  truncated_before = 1;
  /** Highest number that was ever used. */
  highest = 0;

  copy(): BallastLedger {
    const copy = new BallastLedger();
    for (const [number, bytes] of this.durable) copy.durable.set(number, bytes);
    copy.truncated_before = this.truncated_before;
    copy.highest = this.highest;
    return copy;
  }
}

export class Ballast {
  readonly #world: World;
  readonly #ledger: BallastLedger;
  readonly #log: LogEngine;
  readonly #onFailure: (error: Error) => void;
  #stopped = false;

  constructor(world: World, ledger: BallastLedger, log: LogEngine, onFailure: (error: Error) => void) {
    this.#world = world;
    this.#ledger = ledger;
    this.#log = log;
    this.#onFailure = onFailure;
  }

  /** Looks whether all is there. Rejects with LOG_CORRUPT if some of it is damaged. */
  async check(): Promise<void> {
    const { durable, truncated_before } = this.#ledger;
    const damaged = this.#log.recovery.corrupt.some(({ group }) => group === null || group === GROUP);
    if (damaged) throw new PhxError('LOG_CORRUPT', 'what the log reports as damaged may have been ballast');
    for (const slot of this.#ledger.states.keys()) this.#checkState(slot);
    for (const [number, bytes] of durable) {
      if (number < truncated_before) continue;
      const body = await this.#log.read(GROUP, number);
      this.#require(body !== null, `entry ${number} of the ballast is gone`);
      if (body === null) continue;
      const sound = body.length === bytes && body.every((byte) => byte === number % 256);
      this.#require(sound, `entry ${number} of the ballast is not what was written`);
    }
  }

  /** The log is about to be closed. */
  stop(): void {
    this.#stopped = true;
  }

  /** Appends an entry, and truncates when there are enough. */
  grow(stillDurable: () => boolean): void {
    const { random } = this.#world;
    const ledger = this.#ledger;
    ledger.highest += 1;
    const number = ledger.highest;
    const entry = Buffer.alloc(random.integer(1, ENTRY_BYTES_MAX), number % 256);
    const slots = Array.from({ length: SLOTS_PER_APPEND }, () => random.integer(0, SLOTS - 1));
    for (const slot of slots) this.#checkState(slot);
    const states = slots.map((slot): LogRecord => {
      return { kind: RecordKind.state, group: GROUP, instance: slot, body: [bytesOf(number)] };
    });
    const records = [{ kind: RecordKind.entry, group: GROUP, instance: number, body: [entry] }, ...states];
    const wasSound = stillDurable();
    this.#log.append(records, (error) => {
      if (error !== null) {
        this.#onFailure(error);
        return;
      }
      this.#require(wasSound, 'the log took an append after a write or sync had failed');
      ledger.durable.set(number, entry.length);
      for (const slot of slots) ledger.states.set(slot, number);
      this.#truncate();
    });
  }

  #truncate(): void {
    const { random } = this.#world;
    const { durable } = this.#ledger;
    if (this.#stopped || durable.size <= KEPT_MAX || random.chance(0.5)) return;
    const numbers = [...durable.keys()].sort((a, b) => a - b);
    const before = numbers[random.integer(1, numbers.length - KEPT_MIN)] ?? 1;
    this.#ledger.truncated_before = before;
    for (const number of numbers) if (number < before) durable.delete(number);
    this.#log.truncate(GROUP, before);
  }

  #checkState(slot: number): void {
    const durable = this.#ledger.states.get(slot);
    if (durable === undefined) return;
    const state = this.#log.state(GROUP, slot);
    const sound = state !== null && numberIn(state) >= durable;
    this.#require(sound, `state record ${slot} of the ballast is not ${durable} any more`);
  }

  #require(holds: boolean, what: string): void {
    if (!holds) this.#world.violation(what);
  }
}

function bytesOf(number: number): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(number));
  return bytes;
}

function numberIn(bytes: Uint8Array): number {
  return Number(Buffer.from(bytes).readBigUInt64LE());
}
