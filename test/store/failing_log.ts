import { PhxError } from '../../src/ts/errors.js';
import type { InstanceBounds, LogEngine, LogEntry, LogRecord, LogStats } from '../../src/ts/wal/engine.js';

/** A log whose disk can be made to fail. */
export class FailingLog implements LogEngine {
  readonly #log: LogEngine;
  /** True: every write fails from now on. */
  broken = false;

  constructor(log: LogEngine) {
    this.#log = log;
  }

  get engine(): LogEngine['engine'] {
    return this.#log.engine;
  }

  get recovery(): LogEngine['recovery'] {
    return this.#log.recovery;
  }

  get low_on_space(): boolean {
    return this.#log.low_on_space;
  }

  append(records: readonly LogRecord[], done: (error: Error | null) => void): void {
    if (!this.broken) this.#log.append(records, done);
    else setImmediate(() => done(new PhxError('LOG_POISONED', 'the disk is gone')));
  }

  groups(): number[] {
    return this.#log.groups();
  }

  bounds(group: number): InstanceBounds | null {
    return this.#log.bounds(group);
  }

  has(group: number, instance: number): boolean {
    return this.#log.has(group, instance);
  }

  state(group: number, slot: number): Uint8Array | null {
    return this.#log.state(group, slot);
  }

  read(group: number, instance: number): Promise<Uint8Array | null> {
    return this.#log.read(group, instance);
  }

  readRange(group: number, from: number, through: number, bytes_max: number): Promise<LogEntry[]> {
    return this.#log.readRange(group, from, through, bytes_max);
  }

  truncate(group: number, before: number): void {
    this.#log.truncate(group, before);
  }

  forgetDamage(): void {
    this.#log.forgetDamage();
  }

  stats(): LogStats {
    return this.#log.stats();
  }

  settled(): Promise<void> {
    return this.#log.settled();
  }

  close(): Promise<void> {
    return this.#log.close();
  }
}
