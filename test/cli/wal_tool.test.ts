// Goal: wal_tool tells what a log holds and what is wrong with it, and changes nothing. Method: real runs of the
// program over logs that the engine made, sound ones and ones that were operated on.
import { copyFileSync, mkdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { MARKS_BYTES, MARKS_NAME } from '../../src/ts/wal/marks.js';
import { crc32cBitwise } from '../wal/checksum.js';
import { entry, filesOf, identity, open, putFiles, state, temporaryFolder } from '../wal/fixture.js';
import {
  closedLog,
  flip,
  killedLog,
  program,
  type Run,
  readAll,
  runToEnd,
  SEGMENT_HEADER_BYTES,
  walTool,
} from './wal_tool_fixture.js';

const FIRST = '0000000001.seg';
const SECOND = '0000000002.seg';

/** Writes a changed copy of a file. */
function change(folder: string, name: string, edit: (bytes: Buffer) => void): void {
  const bytes = readFileSync(join(folder, name));
  edit(bytes);
  writeFileSync(join(folder, name), bytes);
}

function bodies(...texts: string[]) {
  return texts.map((text, index) => [entry(1, index + 1, text)]);
}

/** What verify finds, without the summary. */
async function found(t: ExecutionContext, folder: string): Promise<string[]> {
  const run = (await readAll(t, folder)).get('verify');
  t.is(run?.stderr, '');
  const problems = run?.lines.slice(0, -1).filter((line) => !line.startsWith('note: ')) ?? [];
  t.is(run?.status, problems.length === 0 ? 0 : 1);
  return problems;
}

function json(run: Run | undefined) {
  return JSON.parse(run?.stdout ?? '');
}

test('usage, missing folders and folders without a log are one line and exit status 2', async (t) => {
  const empty = temporaryFolder(t);
  writeFileSync(join(empty, 'a_file'), '');
  const wrong: [string[], RegExp][] = [
    [['look', empty], /"look" is no command: use inspect, verify, dump or repair/],
    [['inspect'], /no folder is given; see wal_tool inspect --help/],
    [['verify', '--fast', empty], /Unknown option '--fast'; see wal_tool verify --help/],
    [['inspect', '--write', empty], /Unknown option '--write'/],
    [['repair', empty, empty], /one folder at a time/],
    [['dump', empty, '--group', 'x'], /--group takes an integer from 0 to 4294967295, not "x"/],
    [['dump', empty, '--through', '1e3'], /--through takes an integer/],
    [['dump', empty, '--kind', 'seal'], /--kind takes entry, state, all, not "seal"/],
    [['dump', empty, '--bodies', 'utf'], /--bodies takes none, hex, base64, text/],
    [['dump', empty, '--from', '3', '--through', '2'], /--from 3 is above --through 2/],
    [['verify', join(empty, 'nowhere')], /nowhere does not exist: give a log or data folder/],
    [['verify', join(empty, 'a_file')], /a_file is a file: give the folder that it lies in/],
    [['dump', empty], /holds no log: give a log folder .* or the DataDirPath of a store/],
    [['repair', empty, '--write'], /holds no log/],
  ];
  for (const [args, message] of wrong) {
    const run = await walTool(...args);
    t.regex(run.stderr, message);
    t.regex(run.stderr, /^wal_tool: [^\n]+\n$/);
    t.deepEqual([run.status, run.stdout], [2, ''], args.join(' '));
  }
});

test('the tool and each command have a --help', async (t) => {
  for (const command of ['inspect', 'verify', 'dump', 'repair']) {
    const run = await walTool(command, '--help');
    t.regex(run.stdout, new RegExp(`^Usage: wal_tool ${command} FOLDER`));
    t.deepEqual([run.status, run.stderr], [0, '']);
    t.true((await walTool('--help')).stdout.includes(`wal_tool ${command} FOLDER`));
  }
});

test('a clean log: what it holds, by segment, group and record', async (t) => {
  const text = 'x'.repeat(1500);
  const appends = [
    [entry(1, 1, text), state(1, 0, 'old')],
    [entry(1, 2, text), state(1, 0, 'new')],
    [entry(1, 5, text), entry(7, 9, '')],
    [entry(1, 2, text)],
  ];
  const folder = await closedLog(t, appends, 8192);
  const runs = await readAll(t, folder);
  t.deepEqual(
    [...runs.values()].map(({ status, stderr }) => [status, stderr]),
    Array(6).fill([0, '']),
  );
  const report = json(runs.get('inspect --json'));
  t.like(report, { format_versions: [2], identity: Buffer.from(identity).toString('hex'), holder: null, problems: 0 });
  t.deepEqual(report.groups, [
    { group: 1, entries: 3, first: 1, last: 5, missing: 2, holes: [{ first: 3, last: 4 }], states: [0] },
    { group: 7, entries: 1, first: 9, last: 9, missing: 0, holes: [], states: [] },
  ]);
  t.like(report.totals, { segments: 2, groups: 2, entries: 5, states: 2, live_records: 5 });
  t.deepEqual(
    report.segments.map((one: Record<string, unknown>) => [
      one['id'],
      one['state'],
      one['live_records'],
      one['dead_records'],
    ]),
    [
      [1, 'sealed', 2, 2],
      [2, 'open', 3, 0],
    ],
  );
  t.deepEqual(
    report.marks.copies.map(({ clean }: { clean: boolean }) => clean),
    [true, true],
  );
  t.is(report.spares.length + report.retired.length, filesOf(folder).size - 3);
  const table = runs.get('inspect')?.stdout ?? '';
  t.regex(table, /^ +1 +3 +1 +5 +2 +0 +3\.\.4$/m);
  t.regex(table, /^0000000001\.seg +2 +sealed +8 KiB/m);
  t.regex(runs.get('verify')?.stdout ?? '', /^clean: 2 segments, 7 records, 16 KiB\n$/);
  const dumped = runs.get('dump')?.lines.map((line) => JSON.parse(line)) ?? [];
  t.deepEqual(
    dumped.map(({ segment, kind, group, instance, bytes, status }) => [segment, kind, group, instance, bytes, status]),
    [
      [1, 'entry', 1, 1, 1500, 'sound'],
      [1, 'state', 1, 0, 3, 'sound'],
      [1, 'entry', 1, 2, 1500, 'sound'],
      [1, 'state', 1, 0, 3, 'sound'],
      [1, 'seal', null, null, 0, 'sound'],
      [2, 'entry', 1, 5, 1500, 'sound'],
      [2, 'entry', 7, 9, 0, 'sound'],
      [2, 'entry', 1, 2, 1500, 'sound'],
    ],
  );
  t.deepEqual([dumped[0].flags, dumped[1].flags], [['continues'], []]);
  t.is(dumped[1].body_crc, crc32cBitwise(Buffer.from('old')).toString(16).padStart(8, '0'));
});

test('the data folder of a store serves as well', async (t) => {
  const folder = await closedLog(t, bodies('one'));
  const data = dirname(folder);
  t.is(folder, join(data, 'log'));
  t.is(json(await walTool('inspect', data, '--json')).folder, folder);
  t.is((await walTool('verify', data)).status, 0);
});

test('a flipped bit is named by its place, wherever it is', async (t) => {
  const folder = await killedLog(t, [[state(2, 0, 'state')], ...bodies('one', 'two', 'three', 'four')]);
  const sound = filesOf(folder);
  const second = SEGMENT_HEADER_BYTES + 48 + 48;
  const keyed = `corruption: segment 1 offset ${second} group 1 instance 2: `;
  const cases: [number, string][] = [
    [second + 40, `${keyed}the body does not match its checksum`],
    [second + 44, `${keyed}the padding behind the body is not zero`],
    [second + 8, `corruption: segment 1 offset ${second}: no readable record header`],
    [
      second - 48 + 40,
      `corruption: segment 1 offset ${second - 48} group 1 instance 1: the body does not match its checksum`,
    ],
    [17, 'corruption: segment 1 offset 0: the header of the segment is damaged'],
  ];
  for (const [at, line] of cases) {
    putFiles(folder, sound);
    change(folder, FIRST, (bytes) => flip(bytes, at));
    const lines = await found(t, folder);
    t.deepEqual(lines, [line], `byte ${at}`);
  }
  putFiles(folder, sound);
  change(folder, FIRST, (bytes) => bytes.fill(0, second, second + 48));
  const dumped = (await walTool('dump', folder)).lines.map((line) => JSON.parse(line));
  t.deepEqual(
    dumped.map(({ kind, instance, status }) => [kind, instance, status]),
    [
      ['state', 0, 'sound'],
      ['entry', 1, 'sound'],
      [null, null, 'damaged'],
      ['entry', 3, 'sound'],
      ['entry', 4, 'sound'],
    ],
  );
  t.is(json(await walTool('inspect', folder, '--json')).problems, 1);
});

test('damage is no problem any more when a later record has taken its place', async (t) => {
  const folder = await closedLog(t, [...bodies('one', 'two'), [entry(1, 1, 'again')]]);
  change(folder, FIRST, (bytes) => flip(bytes, bytes.indexOf('one')));
  t.deepEqual(await found(t, folder), []);
  const run = await walTool('verify', folder);
  t.regex(run.stdout, /^note: repaired by a later record: segment 1 offset 4096 group 1 instance 1: the body/);
  t.is(json(await walTool('verify', folder, '--json')).repaired.length, 1);
});

test('marks: damaged, gone, of a log that lost them before, and one copy that a crash left unfinished', async (t) => {
  const folder = await closedLog(t, bodies('one', 'two'));
  const sound = filesOf(folder);
  change(folder, MARKS_NAME, (bytes) => flip(bytes, 44));
  t.deepEqual(await found(t, folder), [
    'corruption: log: copy 0 of the high-water marks cannot be read; the other one serves',
  ]);
  change(folder, MARKS_NAME, (bytes) => flip(bytes, 65_536 + 44));
  t.regex((await found(t, folder)).join('\n'), /^corruption: log: no copy of the high-water marks can be read[^\n]*$/);
  rmSync(join(folder, MARKS_NAME));
  t.regex((await found(t, folder)).join('\n'), /^corruption: log: the file of high-water marks is missing[^\n]*$/);
  t.is(json(await walTool('inspect', folder, '--json')).marks, null);
  const log = await open(t, 'portable', folder);
  await log.close();
  t.regex((await found(t, folder)).join('\n'), /^corruption: log: the high-water marks were lost before[^\n]*$/);
  t.regex((await walTool('inspect', folder)).stdout, /copy 0: sequence \d+, .*, lost$/m);

  const killed = await killedLog(t, bodies('one', 'two'));
  change(killed, MARKS_NAME, (bytes) => {
    const older = bytes.readUInt32LE(32) < bytes.readUInt32LE(65_536 + 32) ? 0 : 65_536;
    bytes.write('unfinished', older);
  });
  t.deepEqual(await found(t, killed), []);
  t.regex((await walTool('verify', killed)).stdout, /^note: one copy of the high-water marks is unfinished/m);
  t.true(sound.size > 1);
});

test('segments: missing, exchanged, of another log, removed before a crash, cut short', async (t) => {
  const folder = await closedLog(
    t,
    [1, 2, 3, 4].map((instance) => [entry(1, instance, 'x'.repeat(1500))]),
    8192,
  );
  const sound = filesOf(folder);
  rmSync(join(folder, FIRST));
  t.deepEqual(await found(t, folder), [
    'corruption: segment 1 offset 0: 0000000001.seg is missing: the high-water marks list it',
  ]);
  t.regex((await walTool('inspect', folder)).stdout, /^0000000001\.seg {2}missing$/m);

  putFiles(folder, sound);
  renameSync(join(folder, FIRST), join(folder, 'aside'));
  renameSync(join(folder, SECOND), join(folder, FIRST));
  renameSync(join(folder, 'aside'), join(folder, SECOND));
  const exchanged = (await found(t, folder)).join('\n');
  t.regex(exchanged, /segment 1 offset 0: the header is that of segment 2/);
  t.regex(exchanged, /segment 2 offset 0: the header is that of segment 1/);

  putFiles(folder, sound);
  change(folder, FIRST, (bytes) => {
    bytes[16] = 1;
    bytes.writeUInt32LE(crc32cBitwise(bytes.subarray(0, 52)), 52);
  });
  t.regex(
    (await found(t, folder)).join('\n'),
    /segment 1 offset 0: the segment belongs to another log, of identity 01a5/,
  );
  const refused = await walTool('repair', folder, '--write');
  t.deepEqual([refused.status, /mixes files of several logs/.test(refused.stderr)], [2, true]);

  putFiles(folder, sound);
  truncateSync(join(folder, FIRST), SEGMENT_HEADER_BYTES + 1540 + 4);
  t.deepEqual(await found(t, folder), [
    'corruption: segment 1 offset 5640: the segment ends without a seal: records are missing',
  ]);
});

test('the newest segment cut between two records, before what was durable, is corruption', async (t) => {
  const folder = await closedLog(t, bodies('one', 'two', 'three'));
  truncateSync(join(folder, FIRST), SEGMENT_HEADER_BYTES + 96);
  t.deepEqual(await found(t, folder), [
    'corruption: segment 1 offset 4192: the file ends before offset 4240, up to which the high-water marks say it ' +
      'was durable',
  ]);
});

test('a format or a kind of record of newer software is refused by every command', async (t) => {
  const folder = await closedLog(t, bodies('one'));
  const sound = filesOf(folder);
  change(folder, FIRST, (bytes) => {
    bytes.writeUInt32LE(3, 8);
    bytes.writeUInt32LE(crc32cBitwise(bytes.subarray(0, 52)), 52);
  });
  for (const { status, stdout, stderr } of (await readAll(t, folder)).values()) {
    t.deepEqual([status, stdout], [2, '']);
    t.regex(stderr, /^wal_tool: log format version 3 is not known; use the wal_tool of the release that wrote it\n$/);
  }
  putFiles(folder, sound);
  change(folder, FIRST, (bytes) => {
    bytes[SEGMENT_HEADER_BYTES + 2] = 5;
    const place = Buffer.alloc(4);
    place.writeUInt32LE(SEGMENT_HEADER_BYTES);
    const seed = crc32cBitwise(bytes.subarray(16, 40));
    const head = bytes.subarray(SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES + 36);
    bytes.writeUInt32LE(crc32cBitwise(head, crc32cBitwise(place, seed)), SEGMENT_HEADER_BYTES + 36);
  });
  for (const { status, stderr } of (await readAll(t, folder)).values()) {
    t.is(status, 2);
    t.regex(stderr, /log record of unknown kind 5/);
  }
});

for (const version of [1, 2]) {
  test(`the kept log of version ${version} is clean`, async (t) => {
    const kept = filesOf(fileURLToPath(new URL(`../../../test/fixtures/log_v${version}`, import.meta.url)));
    const folder = join(temporaryFolder(t), 'log');
    // Zeros at the end are left out of the kept files.
    const padded = [...kept].map(([name, bytes]): [string, Buffer] => {
      return [name, Buffer.concat([bytes, Buffer.alloc((name === MARKS_NAME ? MARKS_BYTES : 8192) - bytes.length)])];
    });
    putFiles(folder, new Map(padded));
    t.deepEqual(await found(t, folder), []);
    const report = json(await walTool('inspect', folder, '--json'));
    t.deepEqual(report.format_versions, [version]);
    t.deepEqual(
      report.groups.map((group: Record<string, unknown>) => [group['group'], group['first'], group['last']]),
      [
        [1, 1, 3],
        [2, 5, 6],
        [0xffff_ffff, 2 ** 53 - 1, 2 ** 53 - 1],
      ],
    );
    const kinds = (await walTool('dump', folder)).lines.map((line) => JSON.parse(line).kind);
    t.is(kinds.filter((kind) => kind === 'mark').length, version === 1 ? 1 : 0);
    t.is(kinds.filter((kind) => kind === 'seal').length, 1);
  });
}

test('a folder on a read-only file system is read like any other', async (t) => {
  const folder = await closedLog(t, bodies('one', 'two'));
  const script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && ! touch "$1/new" 2>/dev/null';
  const inside = (rest: string) => ['-rm', 'sh', '-c', `${script} && ${rest}`, 'sh', folder, process.execPath, program];
  const possible = await runToEnd('unshare', inside('true')).catch(() => null);
  if (possible?.status !== 0) {
    t.log('skipped: this machine does not let the test mount a folder read-only');
    t.pass();
    return;
  }
  for (const command of ['inspect', 'verify', 'dump', 'repair']) {
    const run = await runToEnd('unshare', inside(`exec "$2" "$3" ${command} "$1"`));
    t.deepEqual([run.status, run.stderr], [0, ''], command);
  }
});

test('files of others are named and left alone', async (t) => {
  const folder = await closedLog(t, bodies('one'));
  mkdirSync(join(folder, 'a_folder'));
  copyFileSync(join(folder, FIRST), join(folder, '1.seg'));
  const report = json((await readAll(t, folder)).get('inspect --json'));
  t.deepEqual(report.other_files, ['1.seg', 'a_folder']);
  t.is(report.problems, 0);
});
