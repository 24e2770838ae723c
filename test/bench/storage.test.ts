// Goal: the storage benchmark measures what it says. Method: a run with the smallest settings, whose JSON is looked into; its
// parts that decide what is compared, each for itself.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { makeAddBodies, TOPIC_ID } from '../../bench/storage/add_bodies.js';
import { checkerOf } from '../../bench/storage/checker.js';
import { median, medianRatio, medians, quantile } from '../../bench/storage/figures.js';
import { GrowingFiles } from '../../bench/storage/growing_files.js';
import { atLeast, atMost } from '../../bench/storage/report.js';
import { openPortable } from '../../src/ts/wal/portable.js';
import { append, engines, entry, identity, temporaryFolder } from '../wal/fixture.js';

const SEGMENT_BYTES = 64 * 1024;
const SECONDS = ['--seconds', '0.02', '--rounds', '1'];
const SIZES = ['--fill_mib', '4', '--entries_million', '0.05', '--segment_mib', '1', '--sizes', '128'];

test('a run measures each engine in each section, and reports it', (t) => {
  const folder = temporaryFolder(t);
  const json = join(folder, 'report.json');
  const args = ['dist/bench/storage.js', '--folder', folder, '--json', json, '--outstanding', '1,64'];
  const output = execFileSync(process.execPath, [...args, ...SECONDS, ...SIZES], { encoding: 'utf8', stdio: 'pipe' });
  const report = JSON.parse(readFileSync(json, 'utf8'));
  const appends: { subject: string; outstanding: number; per_s: number; loop_ns: number; batch_bytes: number }[] =
    report.appends.rows;
  t.deepEqual(
    appends.map(({ subject, outstanding }) => `${subject} ${outstanding}`).sort(),
    [...engines, 'growing'].flatMap((subject) => [`${subject} 1`, `${subject} 64`]).sort(),
  );
  for (const { outstanding, per_s, loop_ns, batch_bytes } of appends) {
    t.true(per_s > 0 && loop_ns > 0);
    // A record of 128 bytes takes 168; with one outstanding no two share a sync.
    if (outstanding === 1) t.is(Math.round(batch_bytes), 168);
    else t.true(batch_bytes > 168);
  }
  t.is(report.appends.cells.length, 2);
  t.is(report.add.rows.length, 3 * engines.length);
  for (const { engine, records } of report.recovery.rows) t.is(records, 4096, engine);
  for (const section of [report.recovery, report.reads, report.memory]) t.is(section.rows.length, engines.length);
  for (const { index_bytes_per_entry } of report.memory.rows) t.true(index_bytes_per_entry > 1);
  t.is(output.match(/^target .+: (?:met|not met|unknown) \(.+\)$/gm)?.length, 13);
  t.deepEqual(readdirSync(folder), ['report.json'], 'the logs are gone');
});

test('the growing file has the size of what was written, and its log the same records', async (t) => {
  const folder = temporaryFolder(t);
  const options = { folder, identity, segment_bytes: SEGMENT_BYTES };
  const log = await openPortable(options, { files: new GrowingFiles() });
  t.teardown(() => log.close());
  const sizes = (): number[] =>
    readdirSync(folder)
      .filter((name) => name.includes('.seg'))
      .sort()
      .map((name) => statSync(join(folder, name)).size);
  const body = Buffer.alloc(8 * 1024 - 40);
  await append(log, entry(1, 1, body));
  await log.settled();
  t.deepEqual(sizes(), [4096 + 8 * 1024, 4096]);
  // The files of segments that are truncated become spares: they shrink before they grow again.
  for (let instance = 2; instance <= 40; instance++) {
    await append(log, entry(1, instance, body));
    log.truncate(1, instance);
    await log.settled();
  }
  t.is(sizes().at(-1), 4096);
  t.deepEqual(await log.read(1, 40), new Uint8Array(body));
});

test('Add bodies hold their items, and every engine finds them', (t) => {
  for (const engine of engines) {
    const [body, other] = makeAddBodies(2, 50, 100);
    const scanned = checkerOf(engine)(body ?? new Uint8Array(), TOPIC_ID);
    t.is(scanned.items, 50);
    t.is(scanned.strangers, 0);
    t.true(scanned.item_bytes > 50 * 100);
    t.is(checkerOf(engine)(other ?? new Uint8Array(), TOPIC_ID + 1).strangers, 50);
  }
});

test('medians, ratios and quantiles', (t) => {
  t.is(median([3, 1, 2]), 2);
  t.is(median([4, 1, 2, 3]), 2.5);
  t.is(median([]), Number.NaN);
  t.deepEqual(medians([{ rate: 1 }, { rate: 5 }, { rate: 2 }], ['rate']), { rate: 2 });
  // The machine was twice as fast in the second round: the ratio is the same.
  t.is(medianRatio([10, 20, 30], [5, 10, 10]), 2);
  t.is(quantile([1, 2, 3, 4], 0.5), 3);
  t.is(quantile([1, 2, 3, 4], 1), 4);
});

test('a target is met by all values or not met', (t) => {
  const values = [
    { where: 'a', value: 2 },
    { where: 'b', value: 1 },
  ];
  t.is(atLeast('x', 1, values).met, true);
  t.is(atLeast('x', 1.5, values).met, false);
  t.is(atLeast('x', 1.5, values).detail, '1.00 at b; 1 of 2 met');
  t.is(atMost('x', 1.5, values).worst, 2);
  t.is(atMost('x', 1.5, []).met, null);
  t.is(atLeast('x', 1, [{ where: 'a', value: Number.NaN }]).met, false);
});
