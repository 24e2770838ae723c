// Goal: a log that does not sync its appends says of none of them that it is durable, and a power cut that takes them leaves no
// damage. Method: the marks of both engines; the portable engine on a disk that forgets what was not synced.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { MARKS_NAME, type MarksRecord, readMarks } from '../../src/ts/wal/marks.js';
import { openPortable } from '../../src/ts/wal/portable.js';
import { append, engines, entriesOf, entry, folderInMemory, identity, open, state, text } from './fixture.js';
import { LosingFiles } from './losing_files.js';
import { Timers } from './timers.js';

const SEGMENT_BYTES = 8192;

function marksIn(folder: string): MarksRecord | null {
  return readMarks(readFileSync(join(folder, MARKS_NAME)), identity).record;
}

for (const engine of engines) {
  test(`${engine}: the marks call nothing durable that was not synced`, async (t) => {
    const folder = join(folderInMemory(t), 'log');
    const log = await open(t, engine, folder, { segment_bytes: SEGMENT_BYTES, sync: false });
    await append(log, entry(1, 1, Buffer.alloc(1000)));
    // Writes the marks.
    log.forgetDamage();
    await log.settled();
    t.deepEqual(marksIn(folder)?.durable, { segment: 1, offset: 4096 });
    // A segment is synced when the next one is begun.
    for (let instance = 2; instance <= 4; instance++) await append(log, entry(1, instance, Buffer.alloc(1000)));
    log.forgetDamage();
    await log.settled();
    t.deepEqual(marksIn(folder)?.durable, { segment: 1, offset: 4096 + 3 * 1040 + 40 });
    await log.close();
    t.deepEqual(marksIn(folder)?.durable, { segment: 2, offset: 4096 + 1040 });
  });
}

test('a power cut takes what was not synced of the newest segment, and nothing is reported as damaged', async (t) => {
  const files = new LosingFiles();
  const timers = new Timers();
  const options = { folder: '/log', identity, segment_bytes: SEGMENT_BYTES };
  const log = await openPortable({ ...options, sync: false }, { files, later: timers.later });
  for (let instance = 1; instance <= 8; instance++) {
    await append(log, entry(1, instance, Buffer.alloc(1000, `${instance};`)), state(1, 0, String(instance)));
    timers.runAll();
    await log.settled();
  }
  const left = await openPortable(options, { files: files.copy('synced') });
  t.deepEqual(left.recovery.corrupt, []);
  t.is((await entriesOf(left, 1)).length, 6);
  t.is(text(left.state(1, 0)), '6');
  // What the segments hold that are removed was moved, and is durable before they go.
  log.truncate(1, 8);
  await log.settled();
  const moved = await openPortable(options, { files: files.copy('synced') });
  t.deepEqual(moved.recovery.corrupt, []);
  t.is(text(moved.state(1, 0)), '8');
  await log.close();
  const closed = await openPortable(options, { files: files.copy('synced') });
  t.deepEqual(closed.recovery.corrupt, []);
  t.is(closed.recovery.torn_bytes, 0);
  // A truncation is not durable: both of the newest segment are there.
  t.is((await entriesOf(closed, 1)).length, 2);
  for (const each of [left, moved, closed]) await each.close();
});
