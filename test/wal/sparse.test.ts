// Goal: a slow group does not pin the disk of all others, and nothing is lost or made up when what lives is moved. Method: groups
// of very different pace on small segments, all of it read back; damage in a segment that is to be rewritten.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import type { LogEngine } from '../../src/ts/wal/engine.js';
import { append, engines, entriesOf, entry, folderInMemory, open, state, text } from './fixture.js';

const FAST_GROUPS = 4;
const PACE = 1000;

/** Files that hold no part of what is judged, at most: the newest segment, the spare, retired ones, one that is spared. */
const BESIDE = 5;

for (const engine of engines) {
  test(`${engine}: one group ${PACE} times slower than the rest leaves the files at twice what lives`, async (t) => {
    t.timeout(120_000);
    const segment_bytes = 256 * 1024;
    const folder = join(folderInMemory(t), 'log');
    const log = await open(t, engine, folder, { segment_bytes });
    let worst = 0;
    const slow: [number, string][] = [];
    for (let round = 1; round <= 40; round++) {
      const appended: Promise<void>[] = [];
      for (let number = 0; number < PACE; number++) {
        const instance = round * PACE + number;
        const group = number % FAST_GROUPS;
        appended.push(append(log, entry(group, instance, Buffer.alloc(400, instance)), state(group, 0, `${instance}`)));
      }
      const body = `slow ${round} `.repeat(1000);
      slow.push([round, body]);
      appended.push(append(log, entry(9, round, body)));
      await Promise.all(appended);
      // The fast ones keep a round, the slow one everything.
      for (let group = 0; group < FAST_GROUPS; group++) log.truncate(group, round * PACE);
      await log.settled();
      const { disk_bytes, live_bytes } = log.stats();
      worst = Math.max(worst, (disk_bytes - BESIDE * segment_bytes) / live_bytes);
    }
    t.true(worst <= 2, `disk over live bytes: ${worst}`);
    t.true(log.stats().rewritten_bytes > 0);
    t.deepEqual(await entriesOf(log, 9), slow);
    t.is(text(log.state(1, 0)), String(40 * PACE + 997));
    await log.close();
    const again = await open(t, engine, folder, { segment_bytes });
    t.deepEqual(again.recovery.corrupt, []);
    t.deepEqual(await entriesOf(again, 9), slow);
    t.is(text(again.state(1, 0)), String(40 * PACE + 997));
  });

  test(`${engine}: what lives is moved from everywhere in a large segment, and the segment goes`, async (t) => {
    const segment_bytes = 4 * 1024 * 1024;
    const log = await open(t, engine, join(folderInMemory(t), 'log'), { segment_bytes });
    const instances = [1, 2, 3, 4, 5, 6, 7, 8];
    const slow = instances.map((instance): [number, string] => [instance, `slow ${instance} `.repeat(1000)]);
    for (const [instance, body] of slow) {
      await append(log, entry(1, instance, Buffer.alloc(900 * 1024)), entry(2, instance, body));
    }
    await append(log, entry(1, 9, Buffer.alloc(900 * 1024)));
    t.is(log.stats().segments, 3);
    log.truncate(1, 10);
    await log.settled();
    t.deepEqual(await entriesOf(log, 2), slow);
    t.is(log.stats().segments, 2, 'the newest segment is left, and one that is spared');
  });

  test(`${engine}: what is superseded while it is moved stays superseded`, async (t) => {
    const folder = join(folderInMemory(t), 'log');
    const log = await open(t, engine, folder, { segment_bytes: 8192 });
    for (let round = 1; round <= 30; round++) {
      // Without waiting in between: copies and newer versions are on their way at once.
      const appended = [1, 2, 3].map((instance) =>
        append(log, entry(1, instance, `${instance} in ${round}`.padEnd(700))),
      );
      appended.push(append(log, state(1, 0, `${round}`), entry(2, round, Buffer.alloc(700))));
      log.truncate(2, round);
      if (round % 7 === 0) await Promise.all(appended);
    }
    await log.settled();
    const expected = [1, 2, 3].map((instance): [number, string] => [instance, `${instance} in 30`.padEnd(700)]);
    t.deepEqual(await entriesOf(log, 1), expected);
    await log.close();
    const again = await open(t, engine, folder, { segment_bytes: 8192 });
    t.deepEqual(await entriesOf(again, 1), expected);
    t.is(text(again.state(1, 0)), '30');
  });

  test(`${engine}: a damaged record is neither moved nor dropped, and keeps its segment until it is repaired`, async (t) => {
    const folder = join(folderInMemory(t), 'log');
    const log = await open(t, engine, folder, { segment_bytes: 8192 });
    await append(log, entry(1, 1, 'precious'), entry(1, 2, 'sound'));
    await fill(log, 3, 20);
    flipBody(folder, 'precious');
    log.truncate(3, 1000);
    await log.settled();
    await t.throwsAsync(log.read(1, 1), { code: 'LOG_CORRUPT' });
    t.is(text(await log.read(1, 2)), 'sound');
    await log.close();
    const again = await open(t, engine, folder, { segment_bytes: 8192 });
    t.deepEqual(
      again.recovery.corrupt.map(({ group, instance }) => [group, instance]),
      [[1, 1]],
    );
    again.truncate(3, 1000);
    await again.settled();
    await t.throwsAsync(again.read(1, 1), { code: 'LOG_CORRUPT' });
    await append(again, entry(1, 1, 'fetched again'));
    await fill(again, 4, 20);
    again.truncate(4, 1000);
    await again.settled();
    t.deepEqual(await entriesOf(again, 1), [
      [1, 'fetched again'],
      [2, 'sound'],
    ]);
    t.true(again.stats().segments <= 3, 'repaired, the segment was rewritten and removed');
    await again.close();
    const last = await open(t, engine, folder, { segment_bytes: 8192 });
    t.deepEqual(last.recovery.corrupt, []);
  });
}

async function fill(log: LogEngine, group: number, entries: number): Promise<void> {
  for (let instance = 1; instance <= entries; instance++) await append(log, entry(group, instance, Buffer.alloc(1500)));
}

function flipBody(folder: string, body: string): void {
  const path = join(folder, '0000000001.seg');
  const bytes = readFileSync(path);
  const at = bytes.indexOf(body);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  writeFileSync(path, bytes);
}
