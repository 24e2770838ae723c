// Goal: wal_tool repair does what opening does with a torn tail, and nothing else. Method: the end of a log that was
// killed is torn at different places; one copy is opened, the other one repaired.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { entry, filesOf, folderInMemory, open, putFiles, state } from '../wal/fixture.js';
import { closedLog, flip, killedLog, readAll, SEGMENT_HEADER_BYTES, walTool } from './wal_tool_fixture.js';

const FIRST = '0000000001.seg';
const APPENDS = [[entry(1, 1, 'kept')], [entry(1, 2, 'torn'), state(1, 0, 'torn, too')]];
const torn_at = SEGMENT_HEADER_BYTES + 48;
const end = torn_at + 48 + 56;

/** A log whose last append was written up to `cut`; behind it lies what was there before. */
async function tornLog(t: ExecutionContext, cut: number): Promise<string> {
  const folder = await killedLog(t, APPENDS);
  const path = join(folder, FIRST);
  const bytes = readFileSync(path);
  bytes.fill(0x51, cut);
  writeFileSync(path, bytes);
  return folder;
}

for (const [what, cut, key] of [
  ['body of the first record', torn_at + 42, ' group 1 instance 2'],
  ['header of the second record', torn_at + 48 + 20, ''],
  ['body of the second record', end - 8, ' group 1 instance 0'],
] as const) {
  test(`torn in the ${what}: reported, wiped only on demand, and as opening does it`, async (t) => {
    const folder = await tornLog(t, cut);
    const torn = filesOf(folder);
    const runs = await readAll(t, folder);
    const verified = runs.get('verify');
    t.is(verified?.status, 1);
    t.regex(
      verified?.stdout ?? '',
      new RegExp(`^torn tail: segment 1 offset ${torn_at}${key}: \\d+ bytes of an append`),
    );
    t.regex(verified?.stdout ?? '', /^0 corrupt, 1 torn: 1 segment, 1 record,/m);
    t.regex(runs.get('inspect')?.stdout ?? '', /^0000000001\.seg +2 +torn /m);
    const statuses = runs.get('dump')?.lines.map((line) => JSON.parse(line).status);
    t.deepEqual(statuses, cut > torn_at + 48 + 40 ? ['sound', 'torn', 'torn'] : ['sound', 'torn']);
    const proposed = runs.get('repair');
    t.is(proposed?.status, 1);
    t.regex(
      proposed?.stdout ?? '',
      new RegExp(`^would wipe \\d+ bytes of 0000000001.seg from offset ${torn_at} on: add`),
    );

    const opened = putFiles(join(folderInMemory(t), 'log'), torn);
    const log = await open(t, 'portable', opened);
    t.true(log.recovery.torn_bytes > 0);
    await log.close();
    const run = await walTool('repair', folder, '--write');
    t.is(run.stdout, `wiped ${log.recovery.torn_bytes} bytes of 0000000001.seg from offset ${torn_at} on\n`);
    t.deepEqual([run.status, run.stderr], [0, '']);
    const repaired = filesOf(folder);
    t.deepEqual(repaired.get(FIRST), filesOf(opened).get(FIRST));
    t.deepEqual(new Map([...repaired, [FIRST, null]]), new Map([...torn, [FIRST, null]]), 'nothing else changed');
    t.is((await walTool('verify', folder)).status, 0);
    t.is((await walTool('repair', folder, '--write')).stdout, 'no torn tail: there is nothing to wipe\n');
    t.deepEqual(filesOf(folder), repaired);
  });
}

test('corruption is never touched, beside a torn tail or without one', async (t) => {
  const folder = await tornLog(t, end - 8);
  const path = join(folder, FIRST);
  const bytes = readFileSync(path);
  flip(bytes, bytes.indexOf('kept'));
  writeFileSync(path, bytes);
  const run = await walTool('repair', folder, '--write');
  t.is(run.status, 1, 'damage is left');
  t.regex(run.stdout, /^stays as it is: corruption: segment 1 offset 4096 group 1 instance 1: the body/);
  t.regex(run.stdout, /^wiped /m);
  const wiped = readFileSync(path);
  t.deepEqual(wiped.subarray(0, torn_at), bytes.subarray(0, torn_at));

  const clean = await closedLog(t, APPENDS);
  const damaged = readFileSync(join(clean, FIRST));
  flip(damaged, end - 10);
  writeFileSync(join(clean, FIRST), damaged);
  const files = filesOf(clean);
  const refused = await walTool('repair', clean, '--write');
  t.is(refused.status, 1);
  t.regex(refused.stdout, /no torn tail/);
  t.deepEqual(filesOf(clean), files);
});

test('a log that a process holds is not repaired', async (t) => {
  const folder = await tornLog(t, end - 8);
  const log = await open(t, 'portable', folder);
  const files = filesOf(folder);
  const run = await walTool('repair', folder, '--write');
  t.is(run.status, 2);
  t.regex(run.stderr, /^wal_tool: .* is in use by another process .*: stop it first\n$/);
  t.deepEqual(filesOf(folder), files);
  await log.close();
});
