/**
 * A log on a simulated disk and what was asked of it: workloads act on it, and each call of the file layer is a moment at which
 * the power may fail.
 */
import { join } from 'node:path';
import { type LogEngine, type LogRecord, RecordKind } from '../../src/ts/wal/engine.js';
import type { LogFiles } from '../../src/ts/wal/files.js';
import { openPortable } from '../../src/ts/wal/portable.js';
import { Random } from '../sim/random.js';
import { checkFound, Ledger, type LedgerState, readAll } from './crash_ledger.js';
import { identity } from './fixture.js';
import type { DiskState, SimDisk } from './sim_disk.js';
import { type SimCall, SimFiles, type SimFilesOptions } from './sim_files.js';

export const FOLDER = join('/', 'log');

/** A moment at which the power may fail. */
export interface CrashPoint {
  /** Number of the call in its workload. */
  readonly number: number;
  readonly call: SimCall;
  readonly disk: DiskState;
  readonly ledger: LedgerState;
}

export interface WorldOptions {
  readonly segment_bytes: number;
  readonly seed: number;
  /** Told of each moment that differs from the one before in what a crash may leave or must not lose. */
  readonly onCrashPoint?: (point: CrashPoint) => void;
  /** Asked before each call of the file layer: whether it fails. */
  readonly failureOf?: SimFilesOptions['failureOf'];
  /** Puts a broken file layer between. */
  readonly wrap?: (files: LogFiles) => LogFiles;
}

/** A record without its body, which tells append and key, and its length. */
export interface Wanted {
  readonly kind: RecordKind;
  readonly group: number;
  readonly instance: number;
  readonly bytes: number;
}

export function wantEntry(group: number, instance: number, bytes: number): Wanted {
  return { kind: RecordKind.entry, group, instance, bytes };
}

export function wantState(group: number, instance: number, bytes = 24): Wanted {
  return { kind: RecordKind.state, group, instance, bytes };
}

/** Timers that run when a workload says so. */
class Timers {
  private readonly waiting = new Set<() => void>();

  readonly later = (_delay_ms: number, run: () => void): (() => void) => {
    this.waiting.add(run);
    return () => this.waiting.delete(run);
  };

  runAll(): void {
    for (const run of [...this.waiting]) {
      this.waiting.delete(run);
      run();
    }
  }
}

export class World {
  /** Calls of the file layer that change something. */
  calls = 0;
  /** What was called: kind, and the file's name without its number. */
  readonly called = new Set<string>();
  readonly ledger: Ledger;
  readonly disk: SimDisk;
  private readonly options: WorldOptions;
  private readonly random: Random;
  private files: SimFiles;
  private timers = new Timers();
  private opened: LogEngine | null = null;
  private kills = 0;
  private seen = '';

  constructor(disk: SimDisk, options: WorldOptions, ledger = new Ledger()) {
    this.disk = disk;
    this.options = options;
    this.ledger = ledger;
    this.random = new Random(options.seed);
    this.files = this.newFiles();
  }

  get log(): LogEngine {
    if (this.opened === null) throw new Error('the log is not open');
    return this.opened;
  }

  get isOpen(): boolean {
    return this.opened !== null;
  }

  get open_files(): number {
    return this.files.open_files + this.files.locks;
  }

  /** Opens the log as a new process and checks what it holds. */
  async open(): Promise<void> {
    this.files = this.newFiles();
    this.timers = new Timers();
    const { segment_bytes, wrap } = this.options;
    const files = wrap?.(this.files) ?? this.files;
    const environment = { files, clock_ms: () => 0, later: this.timers.later };
    this.opened = await openPortable({ folder: FOLDER, identity, segment_bytes }, environment);
    const state = this.ledger.state();
    this.ledger.reopened(checkFound(state, await readAll(this.opened, state)));
  }

  /** Appends; resolves when it was reported durable. */
  append(...wanted: Wanted[]): Promise<void> {
    const number = this.ledger.next;
    const records = wanted.map((each) => recordOf(number, each));
    const life = this.kills;
    return new Promise((resolve, reject) => {
      this.log.append(records, (error) => {
        // What a process was about to say when it was killed, nobody has heard.
        if (this.kills > life) return;
        if (error !== null) return reject(error);
        this.ledger.noteDurable(number);
        resolve();
      });
      this.ledger.append(records);
    });
  }

  truncate(group: number, before: number): void {
    this.ledger.truncate(group, before);
    this.log.truncate(group, before);
  }

  /** Reads everything and checks it. */
  async checkNow(): Promise<void> {
    const state = this.ledger.state();
    checkFound(state, await readAll(this.log, state));
  }

  /** The timers go off: high-water marks are due, a full disk is tried again. */
  passTime(): void {
    this.timers.runAll();
  }

  async close(): Promise<void> {
    const log = this.log;
    this.opened = null;
    await log.close();
  }

  /** The process dies at once; nothing that was written is lost. */
  kill(): void {
    this.files.kill();
    this.kills++;
    this.opened = null;
  }

  /** The last moment: also what was reported after the last call must be there. */
  end(): void {
    this.look({ kind: 'list', name: 'the end' });
  }

  private newFiles(): SimFiles {
    const { failureOf = () => null } = this.options;
    return new SimFiles(this.disk, { random: this.random, onCall: (call) => this.look(call), failureOf });
  }

  private look(call: SimCall): void {
    this.calls++;
    this.called.add(`${call.kind} ${call.name.replace(/^\d+/, '')}`);
    if (this.options.onCrashPoint === undefined) return;
    const ledger = this.ledger.state();
    const seen = `${this.disk.version}/${ledger.durable}/${ledger.truncations.length}`;
    if (seen === this.seen) return;
    this.seen = seen;
    this.options.onCrashPoint({ number: this.calls, call, disk: this.disk.state(), ledger });
  }
}

function recordOf(append: number, { kind, group, instance, bytes }: Wanted): LogRecord {
  const text = `${append}:${kind}/${group}/${instance};`;
  return { kind, group, instance, body: [Buffer.alloc(Math.max(bytes, text.length), text)] };
}
