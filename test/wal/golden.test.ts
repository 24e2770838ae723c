// Goal: every version of the format stays readable for good, and the newest is written to the byte. Method: logs that were
// written once and are kept (test/fixtures/log_v1, log_v2) must be read by both engines; writing the same again must give the
// same bytes. Zeros at the end of a file are left out of the kept ones. `--rewrite` as an argument writes the newest anew.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import type { LogEngine } from '../../src/ts/wal/engine.js';
import { MARKS_BYTES, MARKS_NAME, readMarks } from '../../src/ts/wal/marks.js';
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

const VERSIONS = [1, 2];
const NEWEST = 2;
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
  await log.settled();
  await log.close();
}

function goldenFolder(version: number): string {
  return fileURLToPath(new URL(`../../../test/fixtures/log_v${version}`, import.meta.url));
}

/** The kept files, at their full size. */
function goldenFiles(version: number): Map<string, Buffer> {
  const files = [...filesOf(goldenFolder(version))].map(([name, bytes]): [string, Buffer] => {
    const size_bytes = name === MARKS_NAME ? MARKS_BYTES : segment_bytes;
    return [name, Buffer.concat([bytes, Buffer.alloc(size_bytes - bytes.length)])];
  });
  return new Map(files);
}

function withoutZeros(bytes: Buffer): Buffer {
  return bytes.subarray(0, bytes.findLastIndex((byte) => byte !== 0) + 1);
}

if (process.argv.includes('--rewrite')) {
  const parent = mkdtempSync(join(tmpdir(), 'phxqueue-golden-'));
  const folder = join(parent, 'log');
  await write(await openLog({ engine: 'portable', folder, identity, segment_bytes }));
  mkdirSync(goldenFolder(NEWEST), { recursive: true });
  for (const [name, bytes] of keptFilesOf(folder)) writeFileSync(join(goldenFolder(NEWEST), name), bytes);
  rmSync(parent, { recursive: true });
}

/** Segments and marks: the spare depends on time. */
function keptFilesOf(folder: string): Map<string, Buffer> {
  const kept = [...filesOf(folder)].filter(([name]) => name.endsWith('.seg') || name === MARKS_NAME);
  return new Map(kept.map(([name, bytes]) => [name, withoutZeros(bytes)]));
}

for (const engine of engines) {
  for (const version of VERSIONS) {
    test(`${engine}: reads version ${version}`, async (t) => {
      const folder = putFiles(join(temporaryFolder(t), 'log'), goldenFiles(version));
      const log = await open(t, engine, folder, { segment_bytes });
      const { elapsed_ms: _, ...recovery } = log.recovery;
      t.deepEqual(recovery, {
        segments: 2,
        records: 10,
        bytes: 4576,
        torn_bytes: 0,
        corrupt: [],
        damaged_marks: 0,
      });
      await check(t, log);
      await append(log, entry(1, 4, 'and goes on'));
      t.is(text(await log.read(1, 4)), 'and goes on');
      await log.close();
      const again = await open(t, engine, folder, { segment_bytes });
      t.deepEqual(again.recovery.corrupt, []);
      t.is(again.recovery.records, 11);
      t.is(text(await again.read(1, 4)), 'and goes on');
    });
  }

  test(`${engine}: writes version ${NEWEST}`, async (t) => {
    const folder = join(temporaryFolder(t), 'log');
    await write(await open(t, engine, folder, { segment_bytes }));
    const kept = goldenFiles(NEWEST);
    for (const [name, bytes] of filesOf(folder)) {
      if (!name.endsWith('.seg')) continue;
      t.true(bytes.equals(kept.get(name) ?? Buffer.alloc(0)), name);
    }
    // How often the marks were written before depends on time, what they say at the end does not.
    const [written, expected] = [filesOf(folder), kept].map((files) => {
      return readMarks(files.get(MARKS_NAME) ?? Buffer.alloc(0), identity);
    });
    t.deepEqual(written?.record, { ...expected?.record, sequence: written?.sequence });
    t.is(written?.damaged, 0);
  });
}

async function check(t: ExecutionContext, log: LogEngine): Promise<void> {
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
}
