// Goal: whole pieces of a log that are lost, stale, zeroed or somebody else's are noticed, and never pass for what was written.
// Method: surgery on the files of logs of several segments, with both engines. (Lost segments and marks: marks.test.ts; segments
// that changed places: damage.test.ts; a whole folder of another log: conformance.test.ts.)
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { LogEngine } from '../../src/ts/wal/engine.js';
import {
  append,
  type EngineName,
  engines,
  entry,
  filesOf,
  folderInMemory,
  identity,
  open,
  putFiles,
  state,
} from './fixture.js';

type Files = Map<string, Buffer>;
type Entries = [number, string | null][];

const SEGMENT_BYTES = 32 * 1024;
const HEADER_BYTES = 4096;
const BLOCK_BYTES = 4096;

function body(instance: number): string {
  return `${instance},`.padEnd(900 + (instance % 7) * 40, 'x');
}

function appendEntry(log: LogEngine, instance: number): Promise<void> {
  return append(log, entry(1, instance, body(instance)), state(1, 0, String(instance)));
}

/** Files of a log that was closed with so many entries. */
async function closedLog(t: ExecutionContext, engine: EngineName, entries: number, owner = identity): Promise<Files> {
  const folder = join(folderInMemory(t), 'log');
  const log = await open(t, engine, folder, { segment_bytes: SEGMENT_BYTES, identity: owner });
  for (let instance = 1; instance <= entries; instance++) await appendEntry(log, instance);
  await log.settled();
  await log.close();
  return filesOf(folder);
}

/** What an opened copy of these files reports and holds; damaged entries are left out. */
async function look(t: ExecutionContext, engine: EngineName, files: Files, segment_bytes = SEGMENT_BYTES) {
  const folder = putFiles(join(folderInMemory(t), 'log'), files);
  const log = await open(t, engine, folder, { segment_bytes });
  const entries: Entries = [];
  const { first, last } = log.bounds(1) ?? { first: 1, last: 0 };
  for (let instance = first; instance <= last; instance++) {
    const [found] = await log.readRange(1, instance, instance, 1e9).catch(() => []);
    if (found !== undefined) entries.push([instance, Buffer.from(found.body).toString()]);
  }
  const { recovery } = log;
  await append(log, entry(2, 1, 'goes on'));
  await log.close();
  return { recovery, entries, reported: recovery.corrupt.length > 0 || recovery.damaged_marks > 0 };
}

function allTrue(entries: Entries): boolean {
  return entries.every(([instance, found]) => found === body(instance));
}

for (const engine of engines) {
  test(`${engine}: a stale copy of the newest segment is noticed`, async (t) => {
    const folder = join(folderInMemory(t), 'log');
    const log = await open(t, engine, folder);
    for (let instance = 1; instance <= 5; instance++) await appendEntry(log, instance);
    await log.close();
    const stale = filesOf(folder);
    const again = await open(t, engine, folder);
    for (let instance = 6; instance <= 9; instance++) await appendEntry(again, instance);
    await again.close();
    const name = '0000000001.seg';
    const files: Files = new Map([...filesOf(folder), [name, stale.get(name) ?? Buffer.alloc(0)]]);
    const { recovery, entries } = await look(t, engine, files, 64 * 1024);
    t.is(recovery.torn_bytes, 0);
    t.deepEqual(
      recovery.corrupt.map(({ segment }) => segment),
      [1],
    );
    t.is(entries.length, 5);
    t.true(allTrue(entries));
  });

  test(`${engine}: stale marks cost nothing, and what was removed since is reported`, async (t) => {
    const folder = join(folderInMemory(t), 'log');
    const log = await open(t, engine, folder, { segment_bytes: SEGMENT_BYTES });
    for (let instance = 1; instance <= 60; instance++) await appendEntry(log, instance);
    await log.settled();
    const marks = filesOf(folder).get('marks') ?? Buffer.alloc(0);
    for (let instance = 61; instance <= 90; instance++) await appendEntry(log, instance);
    await log.close();
    const stale: Files = new Map([...filesOf(folder), ['marks', marks]]);
    const kept = await look(t, engine, stale);
    t.deepEqual(kept.recovery.corrupt, []);
    t.is(kept.entries.length, 90);
    const again = await open(t, engine, folder, { segment_bytes: SEGMENT_BYTES });
    again.truncate(1, 85);
    await again.settled();
    await again.close();
    const removed = await look(t, engine, new Map([...filesOf(folder), ['marks', marks]]));
    t.deepEqual(removed.recovery.corrupt[0], { segment: 1, offset: 0, group: null, instance: null });
    t.true(allTrue(removed.entries));
    t.is(removed.entries.at(-1)?.[0], 90);
  });

  test(`${engine}: each zeroed block of 4 KiB is noticed where it held anything`, async (t) => {
    t.timeout(120_000);
    const files = await closedLog(t, engine, 80);
    const whole = await look(t, engine, files);
    t.is(whole.entries.length, 80);
    let zeroed = 0;
    for (const [name, bytes] of files) {
      for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
        const damaged = Buffer.from(bytes).fill(0, at, at + BLOCK_BYTES);
        if (damaged.equals(bytes)) continue;
        zeroed++;
        const seen = await look(t, engine, new Map([...files, [name, damaged]]));
        const where = `${name}, block ${at / BLOCK_BYTES}`;
        t.is(seen.recovery.torn_bytes, 0, where);
        t.true(allTrue(seen.entries), where);
        // The spare holds nothing: a bad one is made anew.
        if (name.endsWith('.new')) t.deepEqual([seen.reported, seen.entries.length], [false, 80], where);
        else t.true(seen.reported && seen.entries.length >= 80 - 6, where);
      }
    }
    t.true(zeroed > 20);
    t.log(`${zeroed} blocks`);
  });

  test(`${engine}: a single file of another log is refused, and nothing is changed`, async (t) => {
    const files = await closedLog(t, engine, 40);
    const foreign = await closedLog(t, engine, 40, new Uint8Array(16).fill(0x5a));
    t.deepEqual([...files.keys()], [...foreign.keys()]);
    for (const [name, bytes] of foreign) {
      const mixed: Files = new Map([...files, [name, bytes]]);
      const folder = putFiles(join(folderInMemory(t), 'log'), mixed);
      await t.throwsAsync(open(t, engine, folder, { segment_bytes: SEGMENT_BYTES }), { code: 'LOG_IDENTITY' }, name);
      t.deepEqual(filesOf(folder), mixed, name);
    }
  });

  test(`${engine}: a retired segment under a later name is noticed, and its records stay dead`, async (t) => {
    const folder = join(folderInMemory(t), 'log');
    const log = await open(t, engine, folder, { segment_bytes: SEGMENT_BYTES });
    for (let instance = 1; instance <= 60; instance++) await appendEntry(log, instance);
    const first = filesOf(folder).get('0000000001.seg') ?? Buffer.alloc(0);
    log.truncate(1, 58);
    await log.settled();
    await log.close();
    const files = filesOf(folder);
    t.false(files.has('0000000001.seg'));
    const newest = [...files.keys()].filter((name) => name.endsWith('.seg')).at(-1) ?? '';
    const next = `${String(Number(newest.slice(0, 10)) + 1).padStart(10, '0')}.seg`;
    files.delete(`${next}.new`);
    const seen = await look(t, engine, new Map([...files, [next, first]]));
    t.true(seen.reported);
    t.deepEqual(
      seen.entries.map(([instance]) => instance).filter((instance) => instance < 50),
      [],
    );
    t.true(allTrue(seen.entries));
  });

  test(`${engine}: the old records of a segment that is used again never pass for new ones`, async (t) => {
    t.timeout(120_000);
    const { before, after, name, end } = await recycledLog(t, engine);
    const [old_bytes, new_bytes] = [before.get(`${name}.new`), after.get(name)];
    if (old_bytes === undefined || new_bytes === undefined) return t.fail('the spare became the segment');
    const instancesOf = async (files: Files): Promise<number[]> => {
      const { recovery, entries } = await look(t, engine, files, 8192);
      t.deepEqual(recovery.corrupt, []);
      t.true(entries.every(([instance, found]) => found === recycledBody(instance)));
      return entries.map(([instance]) => instance);
    };
    const durable = await instancesOf(before);
    const all = await instancesOf(after);
    t.deepEqual(all.slice(0, -3), durable);
    for (let cut = HEADER_BYTES; cut <= end; cut += 40) {
      // The last batch was torn here: behind lies what the segment held in its former life, at the same places.
      const torn = Buffer.concat([new_bytes.subarray(0, cut), old_bytes.subarray(cut)]);
      const marks = before.get('marks') ?? Buffer.alloc(0);
      const found = await instancesOf(new Map([...after, [name, torn], ['marks', marks]]));
      const whole = Math.floor((cut - HEADER_BYTES) / RECYCLED_RECORD_BYTES);
      t.deepEqual(found, all.slice(0, durable.length + whole), `cut at ${cut}`);
    }
  });
}

const RECYCLED_RECORD_BYTES = 960;

function recycledBody(instance: number): string {
  return `${instance},`.repeat(460).slice(0, 920);
}

/** A log that goes on in a recycled segment, before and after three more appends; `end` is where their records end. */
async function recycledLog(t: ExecutionContext, engine: EngineName) {
  const folder = join(folderInMemory(t), 'log');
  const log = await open(t, engine, folder, { segment_bytes: 8192 });
  let instance = 0;
  const add = (): Promise<void> => append(log, entry(1, ++instance, recycledBody(instance)));
  const holdsOld = ([name, bytes]: [string, Buffer]): boolean =>
    name.endsWith('.new') && bytes.some((byte, at) => byte !== 0 && at >= HEADER_BYTES);
  while (![...filesOf(folder)].some(holdsOld) || instance % 4 !== 0) {
    await add();
    log.truncate(1, instance - 6);
    await log.settled();
  }
  const before = filesOf(folder);
  const name = [...before.keys()].find((each) => each.endsWith('.new'))?.slice(0, -4) ?? '';
  // In one batch.
  await Promise.all([add(), add(), add()]);
  await log.settled();
  const after = filesOf(folder);
  await log.close();
  return { before, after, name, end: HEADER_BYTES + 3 * RECYCLED_RECORD_BYTES };
}
