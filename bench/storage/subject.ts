/** A log under measurement, in the process that this is done in. */
import { assert } from '../../src/ts/errors.js';
import type { AddChecker } from '../../src/ts/store/add_check.js';
import { type LogEngine, type LogStats, RecordKind } from '../../src/ts/wal/engine.js';
import { recordBytes } from '../../src/ts/wal/format.js';
import { openLog } from '../../src/ts/wal/open.js';
import { openPortable } from '../../src/ts/wal/portable.js';
import { makeAddBodies, TOPIC_ID } from './add_bodies.js';
import { checkerOf } from './checker.js';
import { type Done, runClosedLoop } from './closed_loop.js';
import type { AppendKey, Figures, LoopKey, MemoryKey, OpenKey, OpenOptions, ReadKey, Subject } from './command.js';
import { GrowingFiles } from './growing_files.js';
import { LoopClock } from './loop_time.js';

const IDENTITY = new Uint8Array(16);
const GROUP = 1;
/** The last half of a segment lives; what lies before is truncated in steps, so that segments are used again. */
const KEPT_SEGMENTS = 1 / 2;
const TRUNCATE_STEP_SEGMENTS = 1 / 32;
/** When this much was written, the log has the spare and the retired files that it goes on with. */
const PRIME_SEGMENTS = 3.5;
const PRIME_STEP_SEGMENTS = 1 / 32;
const FILL_RECORDS = 1024;
const ADD_OUTSTANDING = 64;
const ADD_BODIES = 16;

type LogOptions = OpenOptions & { readonly subject: Exclude<Subject, 'limit'> };

export class LogUnderTest {
  private readonly log: LogEngine;
  private readonly check: AddChecker;
  private readonly segment_bytes: number;
  /** Instance of the last append. */
  private last = 0;

  static async open({ subject, ...rest }: LogOptions): Promise<[LogUnderTest, Figures<OpenKey>]> {
    const options = { ...rest, identity: IDENTITY };
    const started_ms = performance.now();
    const files = new GrowingFiles();
    const log = await (subject === 'growing'
      ? openPortable(options, { files })
      : openLog({ ...options, engine: subject }));
    const wall_ms = performance.now() - started_ms;
    const { elapsed_ms, records, bytes, corrupt } = log.recovery;
    assert(corrupt.length === 0, 'the log is sound');
    return [new LogUnderTest(log, rest.segment_bytes), { wall_ms, elapsed_ms, records, bytes }];
  }

  private constructor(log: LogEngine, segment_bytes: number) {
    this.log = log;
    this.segment_bytes = segment_bytes;
    this.check = checkerOf(log.engine);
    this.last = log.bounds(GROUP)?.last ?? 0;
  }

  /** Brings the log to where it is after running for a while: segments are truncated and used again. */
  async prime(): Promise<void> {
    const body = [Buffer.alloc(this.segment_bytes * PRIME_STEP_SEGMENTS, 'p')];
    for (let filled = 0; filled < PRIME_SEGMENTS; filled += PRIME_STEP_SEGMENTS) {
      await this.appendMany(1, body);
      this.log.truncate(GROUP, this.last);
      await this.log.settled();
    }
  }

  async appends(bytes: number, outstanding: number, seconds: number): Promise<Figures<AppendKey>> {
    const body = [Buffer.alloc(bytes, 'a')];
    return this.measureAppends(outstanding, seconds, recordBytes(bytes), (done) => this.append(body, done));
  }

  /** The way of an Add body into the log; the figures are those of a body. */
  async add(items: number, bytes: number, seconds: number): Promise<Figures<AppendKey>> {
    const bodies = makeAddBodies(ADD_BODIES, items, bytes).map((body) => [body] as const);
    return this.measureAppends(ADD_OUTSTANDING, seconds, recordBytes(bodies[0]?.[0].length ?? 0), (done) => {
      const body = bodies[this.last % ADD_BODIES];
      assert(body !== undefined, 'there is a body');
      const scanned = this.check(body[0], TOPIC_ID);
      assert(scanned.items === items && scanned.strangers === 0, 'the scan finds the items');
      this.append(body, done);
    });
  }

  /** Only the scan of Add bodies, one after the other. */
  parse(items: number, bytes: number, seconds: number): Figures<'item_ns'> {
    const bodies = makeAddBodies(ADD_BODIES, items, bytes);
    this.scanBodies(bodies, seconds);
    return { item_ns: this.scanBodies(bodies, seconds) };
  }

  /** Appends that many entries as fast as they go. */
  async fill(records: number, bytes: number): Promise<void> {
    const body = [Buffer.alloc(bytes, 'f')];
    for (let left = records; left > 0; left -= FILL_RECORDS) await this.appendMany(Math.min(left, FILL_RECORDS), body);
    await this.log.settled();
  }

  /** Reads `entries` that follow each other, from random places among the first `records`; one read at a time. */
  async ranges(records: number, entries: number, seconds: number): Promise<Figures<ReadKey>> {
    await this.readRanges(records, entries, seconds / 5);
    return this.readRanges(records, entries, seconds);
  }

  memory(): Figures<MemoryKey> {
    assert(globalThis.gc !== undefined, 'the process was started with --expose-gc');
    globalThis.gc();
    const { rss, heapUsed, external } = process.memoryUsage();
    const { index_bytes } = this.log.stats();
    return { index_bytes, rss_bytes: rss, heap_bytes: heapUsed, external_bytes: external };
  }

  close(): Promise<void> {
    return this.log.close();
  }

  /** Nanoseconds an item. */
  private scanBodies(bodies: readonly Uint8Array[], seconds: number): number {
    const started_ms = performance.now();
    const until_ms = started_ms + seconds * 1000;
    let scanned = 0;
    while (performance.now() < until_ms) for (const body of bodies) scanned += this.check(body, TOPIC_ID).items;
    return ((performance.now() - started_ms) * 1e6) / scanned;
  }

  private append(body: readonly Uint8Array[], done: Done): void {
    this.last++;
    this.log.append([{ kind: RecordKind.entry, group: GROUP, instance: this.last, body }], done);
  }

  private appendMany(records: number, body: readonly Uint8Array[]): Promise<void> {
    return new Promise((resolve, reject) => {
      let waiting = records;
      const done: Done = (error) => {
        if (error !== null) reject(error);
        waiting--;
        if (waiting === 0) resolve();
      };
      for (let number = 0; number < records; number++) this.append(body, done);
    });
  }

  private async measureAppends(
    outstanding: number,
    seconds: number,
    record_bytes: number,
    append: (done: Done) => void,
  ): Promise<Figures<AppendKey>> {
    const kept = Math.ceil((this.segment_bytes * KEPT_SEGMENTS) / record_bytes) + outstanding;
    const step = Math.ceil((this.segment_bytes * TRUNCATE_STEP_SEGMENTS) / record_bytes);
    const marks: LogStats[] = [];
    const start = (done: Done): void => {
      append(done);
      if (this.last % step === 0 && this.last > kept) this.log.truncate(GROUP, this.last - kept);
    };
    const mark = (): void => {
      marks.push(this.log.stats());
    };
    const loop = await runClosedLoop({ outstanding, seconds, start, mark });
    await this.log.settled();
    return { ...loop, ...batchesBetween(marks) };
  }

  private async readRanges(records: number, entries: number, seconds: number): Promise<Figures<ReadKey>> {
    const places = records - entries + 1;
    const started_ms = performance.now();
    const until_ms = started_ms + seconds * 1000;
    const clock = new LoopClock();
    let random = 1;
    let reads = 0;
    let now_ms = started_ms;
    for (; now_ms < until_ms; now_ms = performance.now()) {
      random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
      const from = 1 + Math.floor((random / 2 ** 32) * places);
      const found = await this.log.readRange(GROUP, from, from + entries - 1, Number.MAX_SAFE_INTEGER);
      assert(found.length === entries, 'all entries are there');
      reads++;
    }
    const { loop_ns } = clock.read();
    return { wall_us: ((now_ms - started_ms) * 1000) / reads, loop_us: loop_ns / 1000 / reads };
  }
}

type BatchKey = Exclude<AppendKey, LoopKey>;

function batchesBetween([from, to]: readonly LogStats[]): Figures<BatchKey> {
  assert(from !== undefined && to !== undefined, 'beginning and end were marked');
  const syncs = to.syncs - from.syncs;
  return {
    batch_records: (to.appended_records - from.appended_records) / syncs,
    batch_bytes: (to.appended_bytes - from.appended_bytes) / syncs,
    rewritten_bytes: to.rewritten_bytes - from.rewritten_bytes,
  };
}
