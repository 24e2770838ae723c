// Goal: the high-water marks tell damage from a torn tail, notice what is gone, and are themselves checked. Method: surgery on the
// files of small logs, with both engines; each byte of a segment and of the marks in turn.
import { rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { checkSegmentHeader, segmentSeed } from '../../src/ts/wal/format.js';
import { MARKS_NAME, OPENED_AT, readMarks, readSlots } from '../../src/ts/wal/marks.js';
import { scanSegment } from '../../src/ts/wal/segment_scan.js';
import {
  append,
  type EngineName,
  engines,
  entriesOf,
  entry,
  filesOf,
  folderInMemory,
  identity,
  open,
  putFiles,
  state,
} from './fixture.js';

const FIRST = '0000000001.seg';

/** Files of a log that was closed. */
async function closedLog(t: ExecutionContext, engine: EngineName, segment_bytes: number): Promise<Map<string, Buffer>> {
  const folder = join(folderInMemory(t), 'log');
  const log = await open(t, engine, folder, { segment_bytes });
  for (let instance = 1; instance <= 4; instance++) {
    await append(log, entry(1, instance, Buffer.alloc(1500, instance)), state(1, 0, String(instance)));
  }
  await log.settled();
  await log.close();
  return filesOf(folder);
}

for (const engine of engines) {
  test(`${engine}: damage in the last record of a log that was closed is no torn tail`, async (t) => {
    const files = await closedLog(t, engine, 64 * 1024);
    const bytes = files.get(FIRST) ?? Buffer.alloc(0);
    const end = bytes.findLastIndex((byte) => byte !== 0);
    // The last body, the last header, and the padding before it.
    for (const at of [end, end - 40, end - 42]) {
      const damaged = Buffer.from(bytes);
      damaged[at] = (damaged[at] ?? 0) ^ 4;
      const folder = putFiles(join(folderInMemory(t), 'log'), new Map([...files, [FIRST, damaged]]));
      for (let opening = 1; opening <= 2; opening++) {
        const log = await open(t, engine, folder);
        t.is(log.recovery.torn_bytes, 0);
        t.is(log.recovery.corrupt.length, 1, `byte ${at}, opening ${opening}`);
        t.is((await entriesOf(log, 1)).length, 4 + (opening - 1));
        await append(log, entry(1, 4 + opening, 'goes on'));
        await log.close();
      }
    }
  });

  test(`${engine}: marks follow the log soon, without a close`, async (t) => {
    const folder = join(folderInMemory(t), 'log');
    const log = await open(t, engine, folder);
    await append(log, entry(1, 1, 'x'.repeat(1000)));
    const position = 4096 + 1040;
    let offset = 0;
    // By looks, not by time: another test of this file may hold the process up for long.
    for (let look = 0; offset !== position && look < 500; look++) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      offset = readMarks(filesOf(folder).get(MARKS_NAME) ?? Buffer.alloc(0), identity).record?.durable.offset ?? 0;
    }
    t.is(offset, position);
    await log.close();
  });

  test(`${engine}: a segment that is gone is reported at each opening`, async (t) => {
    const files = await closedLog(t, engine, 8192);
    t.true(files.size >= 3);
    for (const gone of [...files.keys()].filter((name) => name.endsWith('.seg'))) {
      const folder = putFiles(join(folderInMemory(t), 'log'), files);
      rmSync(join(folder, gone));
      for (let opening = 1; opening <= 2; opening++) {
        const log = await open(t, engine, folder, { segment_bytes: 8192 });
        const lost = { segment: Number(gone.slice(0, 10)), offset: 0, group: null, instance: null };
        t.deepEqual(log.recovery.corrupt, [lost], `${gone}, opening ${opening}`);
        await append(log, entry(2, opening, 'goes on'));
        await log.close();
      }
    }
  });

  test(`${engine}: a segment that lost its end is reported`, async (t) => {
    const files = await closedLog(t, engine, 64 * 1024);
    const folder = putFiles(join(folderInMemory(t), 'log'), files);
    truncateSync(join(folder, FIRST), 4096 + 2000);
    const log = await open(t, engine, folder);
    t.is(log.recovery.torn_bytes, 0);
    t.true(log.recovery.corrupt.length > 0);
    await append(log, entry(1, 9, 'goes on'));
    await log.close();
  });

  test(`${engine}: marks that are gone are reported at each opening`, async (t) => {
    const files = await closedLog(t, engine, 8192);
    for (const marks of [null, Buffer.alloc(0), Buffer.alloc(131_072)]) {
      const folder = putFiles(
        join(folderInMemory(t), 'log'),
        new Map([...files, [MARKS_NAME, marks ?? Buffer.alloc(0)]]),
      );
      if (marks === null) rmSync(join(folder, MARKS_NAME));
      for (let opening = 1; opening <= 2; opening++) {
        const log = await open(t, engine, folder, { segment_bytes: 8192 });
        t.deepEqual(log.recovery.corrupt, [{ segment: 0, offset: 0, group: null, instance: null }]);
        t.is((await entriesOf(log, 1)).length, 4);
        await log.close();
      }
    }
  });

  test(`${engine}: one damaged copy of the marks is noticed, and the other one serves`, async (t) => {
    const files = await closedLog(t, engine, 8192);
    const marks = files.get(MARKS_NAME) ?? Buffer.alloc(0);
    for (const slot of [0, 65_536]) {
      const damaged = Buffer.from(marks);
      damaged[slot + 42] = (damaged[slot + 42] ?? 0) ^ 1;
      const folder = putFiles(join(folderInMemory(t), 'log'), new Map([...files, [MARKS_NAME, damaged]]));
      const log = await open(t, engine, folder, { segment_bytes: 8192 });
      t.is(log.recovery.damaged_marks, 1);
      t.deepEqual(log.recovery.corrupt, []);
      await log.close();
      const again = await open(t, engine, folder, { segment_bytes: 8192 });
      t.is(again.recovery.damaged_marks, 0, 'both copies were written anew');
      await again.close();
    }
  });

  test(`${engine}: a crash in the first write of the marks after a clean close is no damage`, async (t) => {
    const files = await closedLog(t, engine, 8192);
    const closed = files.get(MARKS_NAME) ?? Buffer.alloc(0);
    const folder = putFiles(join(folderInMemory(t), 'log'), files);
    const log = await open(t, engine, folder, { segment_bytes: 8192 });
    const opened = filesOf(folder).get(MARKS_NAME) ?? Buffer.alloc(0);
    await log.close();
    // What was written first is there, and of the copy that was written then a part.
    const torn = Buffer.from(closed);
    opened.copy(torn, OPENED_AT, OPENED_AT, OPENED_AT + 512);
    const other = readSlots(opened).findIndex((slot) => slot?.copy.clean === false);
    torn.fill(0xee, other * 65_536 + 40, other * 65_536 + 60);
    const crashed = putFiles(join(folderInMemory(t), 'log'), new Map([...files, [MARKS_NAME, torn]]));
    const again = await open(t, engine, crashed, { segment_bytes: 8192 });
    t.is(again.recovery.damaged_marks, 0);
    t.deepEqual(again.recovery.corrupt, []);
    t.is((await entriesOf(again, 1)).length, 4);
    await again.close();
    // That opening says nothing of copies that are lost later.
    const marks = filesOf(crashed).get(MARKS_NAME) ?? Buffer.alloc(0);
    marks[42] = (marks[42] ?? 0) ^ 1;
    const damaged = putFiles(join(folderInMemory(t), 'log'), new Map([...filesOf(crashed), [MARKS_NAME, marks]]));
    t.is((await open(t, engine, damaged, { segment_bytes: 8192 })).recovery.damaged_marks, 1);
  });

  test(`${engine}: the file of a segment that was removed before a crash goes for good`, async (t) => {
    const folder = join(folderInMemory(t), 'log');
    const log = await open(t, engine, folder, { segment_bytes: 8192 });
    for (let instance = 1; instance <= 8; instance++) await append(log, entry(1, instance, Buffer.alloc(1500)));
    const first = filesOf(folder).get(FIRST) ?? Buffer.alloc(0);
    log.truncate(1, 7);
    await log.settled();
    t.false(filesOf(folder).has(FIRST));
    await log.close();
    // Its removal never reached the disk.
    const resurrected = putFiles(join(folderInMemory(t), 'log'), new Map([...filesOf(folder), [FIRST, first]]));
    const again = await open(t, engine, resurrected, { segment_bytes: 8192 });
    t.deepEqual(again.recovery.corrupt, []);
    t.false(again.has(1, 1));
    t.false(filesOf(resurrected).has(FIRST));
    await again.close();
  });
}

test('each byte of a segment of 64 KiB, flipped, is found, and costs no other record', async (t) => {
  t.timeout(300_000);
  const folder = join(folderInMemory(t), 'log');
  const log = await open(t, 'portable', folder, { segment_bytes: 64 * 1024 });
  let instance = 0;
  while (log.stats().segments === 1) {
    instance++;
    const records = [
      entry(1, instance, Buffer.alloc((instance * 97) % 900, instance)),
      state(1, instance % 3, 'state'),
    ];
    await append(log, ...records.slice(0, 1 + (instance % 2)));
  }
  await log.close();
  const bytes = filesOf(folder).get(FIRST) ?? Buffer.alloc(0);
  t.is(bytes.length, 65_536);
  const seed = segmentSeed(identity, 1);
  const read = (durable_end: number): { places: Set<number>; damaged: number; end: number; found: boolean } => {
    const places = new Set<number>();
    let damaged = 0;
    const scan = scanSegment(bytes, 1, seed, durable_end, (record) => {
      places.add(record.offset);
      if (record.damaged) damaged++;
    });
    const found = checkSegmentHeader(bytes, identity, 1) === null || scan.corrupt.length > 0 || scan.torn_bytes > 0;
    return { places, damaged, end: scan.end, found };
  };
  const whole = read(Number.POSITIVE_INFINITY);
  t.false(whole.found);
  const end = whole.end;
  let worst_loss = 0;
  for (let at = 0; at < end; at++) {
    bytes[at] = (bytes[at] ?? 0) ^ (1 << (at % 8));
    // As a sealed segment, and as the newest one whose marks say that it was durable.
    for (const durable_end of [Number.POSITIVE_INFINITY, end]) {
      const { places, damaged, found } = read(durable_end);
      if (!found) t.fail(`byte ${at} is not found`);
      worst_loss = Math.max(worst_loss, whole.places.size - places.size + damaged);
    }
    bytes[at] = (bytes[at] ?? 0) ^ (1 << (at % 8));
  }
  t.true(worst_loss <= 2, 'the record itself, and the one that no longer links up to it');
  t.true(65_536 - end < 1024, 'behind the seal nothing has a meaning');
});

test('each bit of the marks that has a meaning, flipped, is found', async (t) => {
  const files = await closedLog(t, 'portable', 8192);
  const bytes = files.get(MARKS_NAME) ?? Buffer.alloc(0);
  const { record } = readMarks(bytes, identity);
  const used = 56 + 4 * (record?.segments.length ?? 0) + 4;
  for (const slot of [0, 65_536]) {
    for (let at = slot; at < slot + used; at++) {
      for (let bit = 0; bit < 8; bit++) {
        bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
        const found = readMarks(bytes, identity);
        t.is(found.damaged, 1, `byte ${at}, bit ${bit}`);
        t.deepEqual({ ...found.record, sequence: 0 }, { ...record, sequence: 0 });
        bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
      }
    }
  }
});
