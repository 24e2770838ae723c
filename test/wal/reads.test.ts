// Goal: what a read of a range fetches is bounded by what is asked for, whatever lies between, and entries that lie close to each
// other are fetched together. Method: entries of several groups that take turns, on files that count what is read.
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { LogEngine } from '../../src/ts/wal/engine.js';
import { recordBytes } from '../../src/ts/wal/format.js';
import { openPortable } from '../../src/ts/wal/portable.js';
import { FailingFiles } from './failing_files.js';
import { append, engines, entry, folderInMemory, identity, open, temporaryFolder } from './fixture.js';

const ROUNDS = 40;
/** As entry_reader.ts has it. */
const READ_RATIO_MAX = 4;

interface Counted {
  readonly log: LogEngine;
  readonly files: FailingFiles;
}

/** A log in which `groups` groups append in turn, all of the same size. */
async function interleaved(t: ExecutionContext, groups: number, body_bytes: number): Promise<Counted> {
  const files = new FailingFiles();
  const folder = join(temporaryFolder(t), 'log');
  const log = await openPortable({ folder, identity, segment_bytes: 256 * 1024 }, { files });
  t.teardown(() => log.close());
  for (let instance = 1; instance <= ROUNDS; instance++) {
    const records = Array.from({ length: groups }, (_, group) => {
      return entry(group, instance, Buffer.alloc(body_bytes, `${group}/${instance};`));
    });
    await append(log, ...records);
  }
  files.reads = 0;
  files.read_bytes = 0;
  return { log, files };
}

for (const { groups, body_bytes } of [
  { groups: 100, body_bytes: 100 },
  { groups: 10, body_bytes: 1000 },
  { groups: 5, body_bytes: 300 },
]) {
  test(`of ${groups} groups that take turns one is read with little of the others (${body_bytes} bytes)`, async (t) => {
    const { log, files } = await interleaved(t, groups, body_bytes);
    const entries = await log.readRange(3, 1, ROUNDS, 1e9);
    t.is(entries.length, ROUNDS);
    for (const { instance, body } of entries)
      t.deepEqual(body, new Uint8Array(Buffer.alloc(body_bytes, `3/${instance};`)));
    t.true(files.read_bytes <= READ_RATIO_MAX * ROUNDS * recordBytes(body_bytes), `${files.read_bytes} bytes`);
  });
}

test('of few groups that take turns one is fetched by few reads', async (t) => {
  const { log, files } = await interleaved(t, 3, 1000);
  t.is((await log.readRange(2, 1, ROUNDS, 1e9)).length, ROUNDS);
  t.is(files.reads, 1);
});

for (const engine of engines) {
  test(`${engine}: a log is closed when the reads that are under way have ended`, async (t) => {
    const folder = join(folderInMemory(t), 'log');
    const log = await open(t, engine, folder, { segment_bytes: 32 * 1024 * 1024 });
    const body = Buffer.alloc(1024 * 1024, 'x');
    for (let instance = 1; instance <= 30; instance++) await append(log, entry(1, instance, body));
    let ended = 0;
    const reads = Array.from({ length: 6 }, async () => {
      const entries = await log.readRange(1, 1, 30, 1e9);
      ended++;
      return entries.length;
    });
    await log.close();
    t.is(ended, 6);
    t.deepEqual(
      await Promise.all(reads),
      Array.from({ length: 6 }, () => 30),
    );
  });
}
