// Goal: a log may have more segments than a process may have descriptors, and lack of them ends by itself. Method: both engines
// on this machine's files, whose descriptors are counted; the portable engine on files of which only so many may be open.
import { readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import type { LogEngine } from '../../src/ts/wal/engine.js';
import { openPortable } from '../../src/ts/wal/portable.js';
import { FailingFiles } from './failing_files.js';
import { append, engines, entry, folderInMemory, identity, open, temporaryFolder } from './fixture.js';
import { Timers } from './timers.js';

const SEGMENT_BYTES = 8192;
/** As segment_file.ts has it. */
const SEALED_OPEN_MAX = 256;
/** The newest segment, the spare, the marks, the folder, the lock, and a file that is being opened. */
const OTHERS = 6;

/** Descriptors of this process of files in the folder, or of the folder. */
function descriptorsIn(folder: string): number {
  let found = 0;
  for (const descriptor of readdirSync('/proc/self/fd')) {
    try {
      if (readlinkSync(`/proc/self/fd/${descriptor}`).startsWith(folder)) found++;
    } catch {
      // Was that of the listing.
    }
  }
  return found;
}

/** Three of them fill a segment. */
async function fill(log: LogEngine, first: number, last: number): Promise<void> {
  for (let instance = first; instance <= last; instance++) {
    await append(log, entry(1, instance, Buffer.alloc(1200, instance)));
  }
  await log.settled();
}

for (const engine of engines) {
  test(`${engine}: few of many segments are open, and all can be read`, async (t) => {
    const last = 900;
    const folder = join(folderInMemory(t), 'log');
    const first = await open(t, engine, folder, { segment_bytes: SEGMENT_BYTES });
    await fill(first, 1, last);
    t.is(first.stats().segments, 300);
    t.true(descriptorsIn(folder) <= SEALED_OPEN_MAX + OTHERS, `${descriptorsIn(folder)} are open`);
    await first.close();
    t.is(descriptorsIn(folder), 0);
    const log = await open(t, engine, folder, { segment_bytes: SEGMENT_BYTES });
    t.true(descriptorsIn(folder) <= SEALED_OPEN_MAX + OTHERS);
    for (let instance = 1; instance <= last; instance++) {
      t.deepEqual(await log.read(1, instance), new Uint8Array(1200).fill(instance));
    }
    t.true(descriptorsIn(folder) <= SEALED_OPEN_MAX + OTHERS);
    // A read that is under way when its segments are removed ends well, though their files were closed.
    const reading = log.readRange(1, 1, last, 1e9);
    log.truncate(1, last);
    t.is((await reading).length, last);
    await log.settled();
    t.is(log.stats().segments, 1);
    t.true(descriptorsIn(folder) <= OTHERS);
  });
}

test('without a descriptor no segment is made, and the log goes on later', async (t) => {
  const files = new FailingFiles();
  const timers = new Timers();
  const folder = join(temporaryFolder(t), 'log');
  const log = await openPortable({ folder, identity, segment_bytes: SEGMENT_BYTES }, { files, later: timers.later });
  t.teardown(() => log.close());
  await log.settled();
  files.open_max = files.open_files;
  await fill(log, 1, 4);
  t.true(log.low_on_space);
  files.open_max = Number.POSITIVE_INFINITY;
  timers.runAll();
  await log.settled();
  t.false(log.low_on_space);
  await fill(log, 5, 9);
  // A retired file is there, and cannot be opened: it stays.
  log.truncate(1, 7);
  await log.settled();
  files.open_max = files.open_files;
  await fill(log, 10, 12);
  t.true(log.low_on_space);
  t.is(log.stats().disk_bytes, SEGMENT_BYTES * (2 + 2));
  files.open_max = Number.POSITIVE_INFINITY;
  const creations = files.calls.filter((call) => call === 'create').length;
  timers.runAll();
  await log.settled();
  t.false(log.low_on_space);
  t.is(files.calls.filter((call) => call === 'create').length, creations);
  t.is((await log.readRange(1, 7, 12, 1e9)).length, 6);
});

test('a read without a descriptor closes other files, or says so', async (t) => {
  const files = new FailingFiles();
  const folder = join(folderInMemory(t), 'log');
  const log = await openPortable({ folder, identity, segment_bytes: SEGMENT_BYTES }, { files });
  t.teardown(() => log.close());
  await fill(log, 1, 900);
  files.open_max = files.open_files;
  for (let instance = 1; instance <= 9; instance++) t.is((await log.read(1, instance))?.length, 1200);
  files.open_max = 0;
  await t.throwsAsync(log.read(1, 700), { code: 'LOG_IO' });
  files.open_max = Number.POSITIVE_INFINITY;
  t.is((await log.read(1, 700))?.length, 1200);
});
