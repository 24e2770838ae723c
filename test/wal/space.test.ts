// Goal: a full disk is met before a write of the log meets it: new segments fail to be prepared, and nothing else does. Method:
// the portable engine on files that cannot be made; both engines on a small file system where one can be mounted.
import { spawnSync } from 'node:child_process';
import { readdirSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { LogEngine } from '../../src/ts/wal/engine.js';
import { openPortable } from '../../src/ts/wal/portable.js';
import { FailingFiles } from './failing_files.js';
import { append, engines, entry, identity, open, state, temporaryFolder, text } from './fixture.js';
import { Timers } from './timers.js';

interface FullLog {
  readonly log: LogEngine;
  readonly files: FailingFiles;
  readonly timers: Timers;
  /** Entries of group 1, from 1 on. */
  readonly entries: number;
}

/** A log whose newest segment is full but for some small records, on a disk without space for another. */
async function fullLog(t: ExecutionContext): Promise<FullLog> {
  const files = new FailingFiles();
  const timers = new Timers();
  const folder = join(temporaryFolder(t), 'log');
  const log = await openPortable({ folder, identity, segment_bytes: 8192 }, { files, later: timers.later });
  t.teardown(() => log.close());
  await log.settled();
  t.false(log.low_on_space);
  files.setFull(true);
  let entries = 0;
  while (!log.low_on_space) {
    await append(log, entry(1, ++entries, Buffer.alloc(1000, entries)));
    await log.settled();
  }
  return { log, files, timers, entries };
}

/** Whether there was room. */
async function appended(log: LogEngine, instance: number): Promise<boolean> {
  try {
    await append(log, entry(1, instance, Buffer.alloc(1000, instance)));
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'LOG_FULL') return false;
    throw error;
  }
}

test('what fits into the newest segment is taken, what does not is refused with a typed error', async (t) => {
  const { log, entries } = await fullLog(t);
  let last = entries;
  while (await appended(log, last + 1)) last++;
  t.true(last - entries >= 2, 'the reserve is there');
  t.throws(() => log.append([entry(1, last + 1, Buffer.alloc(1000))], () => t.fail()), {
    code: 'LOG_FULL',
    message: /no space for another/,
  });
  await append(log, state(1, 0, 'a promise still fits'));
  t.is(text(log.state(1, 0)), 'a promise still fits');
  t.is((await log.readRange(1, 1, 1e6, 1e9)).length, last);
});

test('when space returns the log takes appends again', async (t) => {
  const { log, files, timers, entries } = await fullLog(t);
  timers.runAll();
  await log.settled();
  t.true(log.low_on_space, 'another attempt, as vain');
  files.setFull(false);
  timers.runAll();
  await log.settled();
  t.false(log.low_on_space);
  for (let instance = entries + 1; instance <= entries + 20; instance++) {
    await append(log, entry(1, instance, Buffer.alloc(1000)));
    await log.settled();
  }
});

test('to look for room is not to have it: the log says all the while that there is none', async (t) => {
  const { log, files, timers } = await fullLog(t);
  const seen: boolean[] = [];
  files.onCreate = () => seen.push(log.low_on_space);
  timers.runAll();
  await log.settled();
  t.deepEqual(seen, [true]);
});

test('truncation makes space on a full disk: the files of dead segments are used again', async (t) => {
  const { log, entries } = await fullLog(t);
  log.truncate(1, entries);
  await log.settled();
  t.false(log.low_on_space);
  // A queue that is drained as fast as it is filled goes on without a new file.
  for (let instance = entries + 1; instance <= entries + 50; instance++) {
    await append(log, entry(1, instance, Buffer.alloc(1000, instance)));
    log.truncate(1, instance - 2);
    await log.settled();
  }
  t.deepEqual(await log.read(1, entries + 50), new Uint8Array(1000).fill(entries + 50));
});

test('what already waits for a segment is given up when the log is closed without space', async (t) => {
  const files = new FailingFiles();
  const folder = join(temporaryFolder(t), 'log');
  const log = await openPortable({ folder, identity, segment_bytes: 8192 }, { files, later: new Timers().later });
  files.setFull(true);
  // All in one turn: nobody knows yet that there is no space for the third segment.
  const outcomes: string[] = [];
  for (let instance = 1; instance <= 12; instance++) {
    log.append([entry(1, instance, Buffer.alloc(1000, instance))], (error) =>
      outcomes.push(error?.message ?? 'durable'),
    );
  }
  await log.settled();
  await log.close();
  t.is(outcomes.length, 12);
  const durable = outcomes.filter((outcome) => outcome === 'durable').length;
  t.true(durable >= 3 && durable < 12);
  t.regex(outcomes.at(-1) ?? '', /before there was space/);
  const again = await openPortable({ folder, identity, segment_bytes: 8192 });
  t.teardown(() => again.close());
  t.deepEqual(again.recovery.corrupt, []);
  t.is((await again.readRange(1, 1, 100, 1e9)).length, durable);
});

/** Fills segments in one turn, nobody knows yet that there is no space, and closes the log: its newest segment is sealed. */
async function fillAndClose(log: LogEngine, appends: number): Promise<number> {
  let durable = 0;
  for (let instance = 1; instance <= appends; instance++) {
    log.append([entry(1, instance, Buffer.alloc(1000, instance))], (error) => {
      if (error === null) durable++;
    });
  }
  await log.settled();
  await log.close();
  return durable;
}

test('a log that ends with a seal opens on a full disk, and goes on when there is space', async (t) => {
  const files = new FailingFiles();
  const timers = new Timers();
  const folder = join(temporaryFolder(t), 'log');
  const options = { folder, identity, segment_bytes: 8192 };
  const first = await openPortable(options, { files, later: timers.later });
  await first.settled();
  files.setFull(true);
  const durable = await fillAndClose(first, 12);
  t.true(durable >= 6 && durable < 12);
  // Twice: what the first opening says of the log must hold for the next.
  for (let opening = 1; opening <= 2; opening++) {
    const log = await openPortable(options, { files, later: timers.later });
    t.true(log.low_on_space);
    t.deepEqual(log.recovery.corrupt, []);
    t.is((await log.readRange(1, 1, 100, 1e9)).length, durable);
    t.throws(() => log.append([state(1, 0, 'a promise')], () => t.fail()), { code: 'LOG_FULL' });
    await log.close();
  }
  const log = await openPortable(options, { files, later: timers.later });
  t.teardown(() => log.close());
  files.setFull(false);
  timers.runAll();
  await log.settled();
  t.false(log.low_on_space);
  await append(log, entry(1, durable + 1, Buffer.alloc(1000, durable + 1)));
  await log.settled();
  await log.close();
  const again = await openPortable(options);
  t.teardown(() => again.close());
  t.deepEqual(again.recovery.corrupt, []);
  t.is((await again.readRange(1, 1, 100, 1e9)).length, durable + 1);
});

test('a log that ends with a seal and not before the next id needs space to open', async (t) => {
  const files = new FailingFiles();
  const folder = join(temporaryFolder(t), 'log');
  const options = { folder, identity, segment_bytes: 8192 };
  const first = await openPortable(options, { files, later: new Timers().later });
  await first.settled();
  files.setFull(true);
  await fillAndClose(first, 12);
  await (await openPortable(options, { files })).close();
  // The marks list a newest segment that is gone: its id must not be used again.
  const newest = readdirSync(folder)
    .filter((name) => name.endsWith('.seg'))
    .sort();
  unlinkSync(join(folder, newest.at(-1) ?? ''));
  await t.throwsAsync(openPortable(options, { files }), { code: 'LOG_IO', message: /ENOSPC/ });
});

/** Mounts a file system of this size, or says why not. */
function mountSmall(t: ExecutionContext, bytes: number): string | null {
  const folder = temporaryFolder(t);
  const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', folder]);
  if (status !== 0) return null;
  t.teardown(() => {
    spawnSync('umount', ['--lazy', folder]);
  });
  return folder;
}

/** Takes what the file system has left. */
function fillUp(path: string): void {
  try {
    writeFileSync(path, Buffer.alloc(1024 * 1024));
  } catch {
    // As much as there was.
  }
}

for (const engine of engines) {
  test(`${engine}: a log that ends with a seal opens on a full file system, and drains`, async (t) => {
    const mount = mountSmall(t, 1024 * 1024);
    if (mount === null) {
      t.log('skipped: file systems cannot be mounted here');
      t.pass();
      return;
    }
    const folder = join(mount, 'log');
    const ballast = join(mount, 'ballast');
    const first = await open(t, engine, folder, { segment_bytes: 64 * 1024 });
    await first.settled();
    fillUp(ballast);
    const durable = await fillAndClose(first, 300);
    t.true(durable > 100 && durable < 300);
    const log = await open(t, engine, folder, { segment_bytes: 64 * 1024 });
    t.true(log.low_on_space);
    t.deepEqual(log.recovery.corrupt, []);
    t.is((await log.readRange(1, 1, 1000, 1e9)).length, durable);
    t.throws(() => log.append([state(1, 0, 'a promise')], () => t.fail()), { code: 'LOG_FULL' });
    // What the segments before the newest took is room again.
    log.truncate(1, durable);
    await log.settled();
    t.false(log.low_on_space);
    for (let instance = durable + 1; instance <= durable + 300; instance++) {
      await append(log, entry(1, instance, Buffer.alloc(1000, instance)));
      log.truncate(1, instance - 2);
      await log.settled();
    }
    await log.close();
    const again = await open(t, engine, folder, { segment_bytes: 64 * 1024 });
    t.deepEqual(again.recovery.corrupt, []);
    t.deepEqual(await again.read(1, durable + 300), new Uint8Array(1000).fill((durable + 300) % 256));
  });

  test(`${engine}: a file system that is full costs nothing, and drains`, async (t) => {
    const mount = mountSmall(t, 1024 * 1024);
    if (mount === null) {
      t.log('skipped: file systems cannot be mounted here');
      t.pass();
      return;
    }
    const log = await open(t, engine, join(mount, 'log'), { segment_bytes: 64 * 1024 });
    await log.settled();
    const ballast = join(mount, 'ballast');
    let last = 0;
    while (await appended(log, last + 1)) {
      last++;
      await log.settled();
    }
    t.true(log.low_on_space);
    t.true(last > 100);
    // Somebody else takes what is left.
    fillUp(ballast);
    log.truncate(1, last);
    await log.settled();
    t.false(log.low_on_space);
    for (let instance = last + 1; instance <= last + 300; instance++) {
      await append(log, entry(1, instance, Buffer.alloc(1000, instance)));
      log.truncate(1, instance - 2);
      await log.settled();
    }
    rmSync(ballast);
    await log.close();
    const again = await open(t, engine, join(mount, 'log'), { segment_bytes: 64 * 1024 });
    t.deepEqual(again.recovery.corrupt, []);
    t.deepEqual(await again.read(1, last + 300), new Uint8Array(1000).fill((last + 300) % 256));
  });
}
