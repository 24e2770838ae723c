// Goal: version 1 of the format stays readable for good. Method: a log that was written once and is kept
// (test/fixtures/log_v1) must be read by both engines, and writing the same again must give the same bytes. Zeros at the end
// of a segment are left out of the kept files. `--rewrite` as an argument of this test writes them anew.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import type { LogEngine } from '../../src/ts/wal/engine.js';
import { openLog } from '../../src/ts/wal/open.js';
import {
  append,
  engines,
  entriesOf,
  entry,
  filesOf,
  identity,
  open,
  putFiles,
  state,
  temporaryFolder,
  text,
} from './fixture.js';

const golden = fileURLToPath(new URL('../../../test/fixtures/log_v1', import.meta.url));
const segment_bytes = 8192;

/** Two segments, every kind of record, an append of several records, empty and odd bodies, a large instance. */
async function write(log: LogEngine): Promise<void> {
  await append(log, entry(1, 1, 'the first entry'), state(1, 0, 'promise 1'));
  await append(
    log,
    entry(
      0xffff_ffff,
      2 ** 53 - 1,
      Uint8Array.from({ length: 256 }, (_, byte) => byte),
    ),
  );
  await append(log, entry(1, 2, ''), state(1, 0, 'promise 2'), state(2, 7, ''));
  await append(log, entry(2, 5, 'x'.repeat(3333)));
  await append(log, entry(1, 1, 'the first entry, again'), entry(1, 3, 'seven b'));
  await append(log, entry(2, 6, 'y'.repeat(500)));
  await log.close();
}

function withoutZeros(bytes: Buffer): Buffer {
  return bytes.subarray(0, bytes.findLastIndex((byte) => byte !== 0) + 1);
}

if (process.argv.includes('--rewrite')) {
  const parent = mkdtempSync(join(tmpdir(), 'phxqueue-golden-'));
  const folder = join(parent, 'log');
  await write(await openLog({ engine: 'portable', folder, identity, segment_bytes }));
  mkdirSync(golden, { recursive: true });
  for (const [name, bytes] of filesOf(folder)) writeFileSync(join(golden, name), withoutZeros(bytes));
  rmSync(parent, { recursive: true });
}

for (const engine of engines) {
  test(`${engine}: reads version 1`, async (t) => {
    const folder = putFiles(join(temporaryFolder(t), 'log'), filesOf(golden));
    const log = await open(t, engine, folder, { segment_bytes });
    t.deepEqual(
      { ...log.recovery, elapsed_ms: 0 },
      {
        segments: 2,
        records: 10,
        bytes: 4576,
        torn_bytes: 0,
        corrupt: [],
        elapsed_ms: 0,
      },
    );
    t.deepEqual(log.groups(), [1, 2, 0xffff_ffff]);
    t.deepEqual(await entriesOf(log, 1), [
      [1, 'the first entry, again'],
      [2, ''],
      [3, 'seven b'],
    ]);
    t.deepEqual(await entriesOf(log, 2), [
      [5, 'x'.repeat(3333)],
      [6, 'y'.repeat(500)],
    ]);
    const bytes = Uint8Array.from({ length: 256 }, (_, byte) => byte);
    t.deepEqual(Buffer.from((await log.read(0xffff_ffff, 2 ** 53 - 1)) ?? []), Buffer.from(bytes));
    t.is(text(log.state(1, 0)), 'promise 2');
    t.is(text(log.state(2, 7)), '');
    await append(log, entry(1, 4, 'and goes on'));
    t.is(text(await log.read(1, 4)), 'and goes on');
  });

  test(`${engine}: writes version 1`, async (t) => {
    const folder = join(temporaryFolder(t), 'log');
    await write(await open(t, engine, folder, { segment_bytes }));
    for (const [name, bytes] of filesOf(folder)) {
      const kept = readFileSync(join(golden, name));
      t.true(withoutZeros(bytes).equals(kept), name);
      t.is(bytes.length, 8192);
    }
  });
}
