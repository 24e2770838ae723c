// Goal: what a crash left unfinished is cut, what was durable and is damaged is reported and never handed out. Method:
// surgery on the files of small logs; both engines must find the same.
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import type { LogEngine, LogRecord, RecoveryReport } from '../../src/ts/wal/engine.js';
import { crc32cBitwise } from './checksum.js';
import {
  append,
  type EngineName,
  engines,
  entriesOf,
  entry,
  filesOf,
  folderInMemory,
  open,
  putFiles,
  state,
  text,
} from './fixture.js';

const FIRST = '0000000001.seg';
const SECOND = '0000000002.seg';
const HEADER_BYTES = 4096;

/** Opens a damaged copy, looks and closes. */
async function inspect<T>(
  t: ExecutionContext,
  engine: EngineName,
  folder: string,
  look: (log: LogEngine) => Promise<T>,
): Promise<T> {
  const log = await open(t, engine, folder);
  const seen = await look(log);
  await log.close();
  return seen;
}

/** The records' end in a segment file. */
function usedBytes(bytes: Buffer): number {
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0) end--;
  return Math.ceil(end / 8) * 8;
}

/** A log as a kill leaves it, with marks that lag behind: one append a batch. */
async function killedLog(t: ExecutionContext, ...appends: LogRecord[][]): Promise<string> {
  const folder = join(folderInMemory(t), 'log');
  const log = await open(t, 'portable', folder);
  await log.settled();
  for (const records of appends) await append(log, ...records);
  const killed = putFiles(join(folderInMemory(t), 'killed'), filesOf(folder));
  await log.close();
  return killed;
}

for (const engine of engines) {
  test(`${engine}: a torn tail is cut at every byte of the last append, and only there`, async (t) => {
    t.timeout(120_000);
    const killed = await killedLog(t, [entry(1, 1, 'kept')], [entry(1, 2, 'torn'), state(1, 0, 'torn, too')]);
    const bytes = readFileSync(join(killed, FIRST));
    const end = usedBytes(bytes);
    const lastStart = HEADER_BYTES + 48;
    const folder = join(folderInMemory(t), 'log');
    for (let cut = lastStart; cut <= end; cut++) {
      putFiles(folder, filesOf(killed));
      // What was there before: zeros, or whatever a retired segment held.
      const before = Buffer.alloc(bytes.length - cut, cut % 2 === 0 ? 0 : 0x51);
      const torn = Buffer.concat([bytes.subarray(0, cut), before]);
      const whole = torn.subarray(0, end).equals(bytes.subarray(0, end));
      writeFileSync(join(folder, FIRST), torn);
      const found = await inspect(t, engine, folder, async (log) => {
        t.deepEqual(log.recovery.corrupt, []);
        t.is(log.recovery.torn_bytes > 0, !whole && cut >= lastStart + 40, `cut at ${cut}`);
        t.is(text(log.state(1, 0)), whole ? 'torn, too' : null);
        await append(log, entry(1, 3, 'goes on'));
        return entriesOf(log, 1);
      });
      const middle: [number, string][] = whole ? [[2, 'torn']] : [];
      t.deepEqual(found, [[1, 'kept'], ...middle, [3, 'goes on']], `cut at ${cut}`);
      const again = await inspect(t, engine, folder, async (log) => ({
        ...log.recovery,
        entries: await entriesOf(log, 1),
      }));
      t.deepEqual([again.torn_bytes, again.corrupt, again.entries], [0, [], found]);
    }
  });

  test(`${engine}: where an older record lies in the place of a lost one, the damage has no key`, async (t) => {
    const around = (body: string): LogRecord[][] => [[entry(1, 1, 'kept')], [state(1, 0, body)], [entry(1, 2, 'two')]];
    const killed = await killedLog(t, ...around('promised'), [entry(1, 3, 'three')]);
    const older = readFileSync(join(await killedLog(t, ...around('outdated')), FIRST));
    const path = join(killed, FIRST);
    const bytes = readFileSync(path);
    const start = bytes.indexOf('promised') - 40;
    older.copy(bytes, start, start, start + 48);
    writeFileSync(path, bytes);
    const log = await open(t, engine, killed);
    // It shows at the record behind, which is sound, and may be replaced: what was lost is not.
    const place = { segment: 1, offset: bytes.indexOf('two') - 40, group: null, instance: null };
    t.deepEqual(log.recovery.corrupt, [place]);
    await append(log, entry(1, 2, 'two, again'));
    await log.close();
    const again = await open(t, engine, killed);
    t.deepEqual(again.recovery.corrupt, [place]);
    await again.close();
  });

  test(`${engine}: damage before the last batch is kept, reported and repaired by a later record`, async (t) => {
    const appends = ['one', 'two', 'three'].map((body, index) => [entry(1, index + 1, body)]);
    const killed = await killedLog(t, [state(2, 0, 'old')], [state(2, 0, 'new')], ...appends);
    const path = join(killed, FIRST);
    const bytes = readFileSync(path);
    // The bodies of the newest state and of entry 1.
    flip(bytes, bytes.indexOf('new'));
    const damaged = bytes.indexOf('one');
    flip(bytes, damaged);
    writeFileSync(path, bytes);
    const log = await open(t, engine, killed);
    t.is(log.recovery.torn_bytes, 0);
    t.deepEqual(
      log.recovery.corrupt.map(({ group, instance }) => [group, instance]),
      [
        [2, 0],
        [1, 1],
      ],
    );
    t.is(log.recovery.corrupt[1]?.offset, damaged - 40);
    t.true(log.has(1, 1));
    t.deepEqual(log.bounds(1), { first: 1, last: 3 });
    await t.throwsAsync(log.read(1, 1), { code: 'LOG_CORRUPT', message: /entry 1 of group 1 is damaged/ });
    await t.throwsAsync(log.readRange(1, 1, 3, 1e9), { code: 'LOG_CORRUPT' });
    t.is((await log.readRange(1, 2, 3, 1e9)).length, 2);
    t.throws(() => log.state(2, 0), { code: 'LOG_CORRUPT' }, 'the older version would be a lie');
    await append(log, entry(1, 1, 'one, repaired'), state(2, 0, 'repaired'));
    t.is(text(await log.read(1, 1)), 'one, repaired');
    t.is(text(log.state(2, 0)), 'repaired');
    await log.close();
    const again = await open(t, engine, killed);
    t.deepEqual(again.recovery.corrupt, [], 'a repaired record is no longer reported');
    t.is(text(await again.read(1, 1)), 'one, repaired');
  });

  test(`${engine}: an unreadable header loses its record, not those behind it`, async (t) => {
    const appends = ['one', 'two', 'three'].map((body, index) => [entry(1, index + 1, body)]);
    const killed = await killedLog(t, ...appends);
    const path = join(killed, FIRST);
    const bytes = readFileSync(path);
    bytes.fill(0, HEADER_BYTES + 48, HEADER_BYTES + 88);
    writeFileSync(path, bytes);
    const log = await open(t, engine, killed);
    t.deepEqual(log.recovery.corrupt, [{ segment: 1, offset: HEADER_BYTES + 48, group: null, instance: null }]);
    t.deepEqual(await entriesOf(log, 1), [
      [1, 'one'],
      [3, 'three'],
    ]);
    log.truncate(1, 100);
    for (let instance = 100; instance < 120; instance++) await append(log, entry(1, instance, 'x'.repeat(8000)));
    t.true(log.stats().segments > 1);
    await log.close();
    t.true(filesOf(killed).has(FIRST), 'nobody knows what lived in the unreadable place');
  });

  test(`${engine}: a sealed segment that is cut short is corruption, not a torn tail`, async (t) => {
    const folder = join(folderInMemory(t), 'log');
    const log = await open(t, engine, folder, { segment_bytes: 8192 });
    for (let instance = 1; instance <= 6; instance++) await append(log, entry(1, instance, 'x'.repeat(1500)));
    await log.close();
    truncateSync(join(folder, FIRST), HEADER_BYTES + 1500);
    const opened = await open(t, engine, folder, { segment_bytes: 8192 });
    t.is(opened.recovery.torn_bytes, 0);
    t.deepEqual(
      opened.recovery.corrupt.map(({ segment, instance }) => [segment, instance]),
      [
        [1, 1],
        [1, null],
      ],
      'the first is cut short, and what followed is missing',
    );
    t.is((await opened.readRange(1, 3, 6, 1e9)).length, 4);
  });

  test(`${engine}: exchanged segment files are noticed`, async (t) => {
    const folder = join(folderInMemory(t), 'log');
    const log = await open(t, engine, folder, { segment_bytes: 8192 });
    for (let instance = 1; instance <= 4; instance++) await append(log, entry(1, instance, 'x'.repeat(1500)));
    await log.close();
    const [first, second] = [readFileSync(join(folder, FIRST)), readFileSync(join(folder, SECOND))];
    writeFileSync(join(folder, FIRST), second);
    writeFileSync(join(folder, SECOND), first);
    const opened = await open(t, engine, folder, { segment_bytes: 8192 });
    t.deepEqual(new Set(opened.recovery.corrupt.map(({ segment }) => segment)), new Set([1, 2]));
    t.is(opened.bounds(1), null);
  });

  test(`${engine}: a format or a kind of record from the future refuses the log, unchanged`, async (t) => {
    const killed = await killedLog(t, [entry(1, 1, 'fine')]);
    const path = join(killed, FIRST);
    const newer = readFileSync(path);
    newer.writeUInt32LE(3, 8);
    newer.writeUInt32LE(crc32cBitwise(newer.subarray(0, 52)), 52);
    writeFileSync(path, newer);
    await t.throwsAsync(open(t, engine, killed), { code: 'LOG_FORMAT', message: /format version 3 is not known/ });
    newer.writeUInt32LE(2, 8);
    newer.writeUInt32LE(crc32cBitwise(newer.subarray(0, 52)), 52);
    newer[HEADER_BYTES + 2] = 5;
    const place = Buffer.alloc(4);
    place.writeUInt32LE(HEADER_BYTES);
    const seed = crc32cBitwise(newer.subarray(16, 40));
    const checksum = crc32cBitwise(newer.subarray(HEADER_BYTES, HEADER_BYTES + 36), crc32cBitwise(place, seed));
    newer.writeUInt32LE(checksum, HEADER_BYTES + 36);
    writeFileSync(path, newer);
    await t.throwsAsync(open(t, engine, killed), { code: 'LOG_FORMAT', message: /unknown kind 5/ });
    t.deepEqual(readFileSync(path), newer);
  });
}

// A log that was closed cleanly: everything in it was durable, so no flipped bit may cost an entry in silence.
test('each flipped bit is found by both engines alike, and never changes an answer', async (t) => {
  t.timeout(120_000);
  const folder = join(folderInMemory(t), 'log');
  const log = await open(t, 'portable', folder, { segment_bytes: 8192 });
  await append(log, entry(1, 1, 'first'), state(1, 0, 'state'));
  await append(log, entry(1, 2, 'second'), entry(1, 3, 'third'), entry(2, 1, 'x'.repeat(3800)));
  await append(log, entry(1, 4, 'in the second segment'));
  await log.close();
  const original = await inspect(t, 'portable', folder, contentsOf);
  const files = filesOf(folder);
  const copy = join(folderInMemory(t), 'log');
  for (const name of [FIRST, SECOND]) {
    const bytes = files.get(name) ?? Buffer.alloc(0);
    for (const at of interestingBytes(bytes)) {
      const damaged = Buffer.from(bytes);
      flip(damaged, at, at % 8);
      const found: Contents[] = [];
      for (const engine of engines) {
        putFiles(copy, new Map([...files, [name, damaged]]));
        found.push(await inspect(t, engine, copy, contentsOf));
      }
      const [one, other = one] = found;
      t.deepEqual(one, other, `${name}, byte ${at}: the engines agree`);
      if (one === undefined) continue;
      const reported = one.recovery.corrupt.length > 0;
      for (const [key, body] of original.bodies) {
        const answer = one.bodies.get(key);
        if (answer !== body)
          t.true(answer === 'LOG_CORRUPT' || (answer === undefined && reported), `${name}, byte ${at}: ${key}`);
        if (answer !== body) t.true(reported, `${name}, byte ${at}: ${key} is reported`);
      }
      t.true([...one.bodies.keys()].every((key) => original.bodies.has(key)));
    }
  }
});

/** Something that disks and people do to a file. */
const surgery = fc.record({
  name: fc.constantFrom(FIRST, SECOND),
  // Mostly where the records are.
  at: fc.oneof({ weight: 1, arbitrary: fc.nat(8191) }, { weight: 4, arbitrary: fc.integer({ min: 4096, max: 8191 }) }),
  length: fc.oneof(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: 4096 })),
  kind: fc.constantFrom('zeros', 'noise', 'moved', 'cut', 'removed'),
  seed: fc.nat(255),
});

type Surgery = typeof surgery extends fc.Arbitrary<infer T> ? T : never;

function operate(files: Map<string, Buffer>, { name, at, length, kind, seed }: Surgery): void {
  const bytes = Buffer.from(files.get(name) ?? []);
  const end = Math.min(at + length, bytes.length);
  if (kind === 'zeros') bytes.fill(0, Math.min(at, end), end);
  if (kind === 'noise') for (let place = at; place < end; place++) flip(bytes, place, (place * 31 + seed) % 8);
  const source = Math.min(4096 + 8 * seed, bytes.length);
  if (kind === 'moved') bytes.copy(bytes, Math.min(at, end), source, source + length);
  files.set(name, kind === 'cut' ? bytes.subarray(0, at) : bytes);
  if (kind === 'removed') files.delete(name);
}

test('whatever is done to the files, both engines find the same, leave the same, and invent nothing', async (t) => {
  t.timeout(120_000);
  const folder = join(folderInMemory(t), 'log');
  const log = await open(t, 'portable', folder, { segment_bytes: 8192 });
  for (let instance = 1; instance <= 12; instance++) {
    await append(log, entry(1, instance, `${instance},`.repeat(instance * 20)), state(1, 0, `${instance}`));
  }
  const files = filesOf(folder);
  await log.close();
  t.true(files.has(SECOND));
  const property = fc.asyncProperty(fc.array(surgery, { minLength: 1, maxLength: 3 }), async (surgeries) => {
    const damaged = new Map(files);
    for (const each of surgeries) operate(damaged, each);
    const found: unknown[] = [];
    for (const engine of engines) {
      const copy = putFiles(join(folderInMemory(t), 'log'), damaged);
      const seen = await inspect(t, engine, copy, async (opened) => {
        const contents = await contentsOf(opened);
        // What is moved comes before, with either engine.
        await opened.settled();
        await append(opened, entry(3, 1, 'goes on'));
        await opened.settled();
        return contents;
      });
      for (const [key, body] of seen.bodies) {
        if (!key.startsWith('entry 1/') || body === 'LOG_CORRUPT') continue;
        const instance = Number(key.slice(8));
        t.is(body, `${instance},`.repeat(instance * 20));
      }
      found.push([seen, segmentsOf(copy)]);
    }
    t.deepEqual(found[0], found[found.length - 1]);
  });
  await t.notThrowsAsync(fc.assert(property, { numRuns: 200 }));
});

interface Contents {
  readonly recovery: Omit<RecoveryReport, 'elapsed_ms'>;
  /** Body, or the error, by key. */
  readonly bodies: Map<string, string | null>;
}

async function contentsOf(log: LogEngine): Promise<Contents> {
  const bodies = new Map<string, string | null>();
  for (const group of log.groups()) {
    const bounds = log.bounds(group);
    for (let instance = bounds?.first ?? 1; instance <= (bounds?.last ?? 0); instance++) {
      if (!log.has(group, instance)) continue;
      bodies.set(`entry ${group}/${instance}`, await log.read(group, instance).then(text, codeOf));
    }
  }
  try {
    const body = log.state(1, 0);
    if (body !== null) bodies.set('state 1/0', text(body));
  } catch (error) {
    bodies.set('state 1/0', codeOf(error));
  }
  const { elapsed_ms: _, ...recovery } = log.recovery;
  return { recovery, bodies };
}

/** The segment files, without what lies beside them: that depends on time. */
function segmentsOf(folder: string): Map<string, Buffer> {
  return new Map([...filesOf(folder)].filter(([name]) => name.endsWith('.seg')));
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}

/** All bytes of headers and small records; of the large body only some. */
function interestingBytes(bytes: Buffer): number[] {
  const end = usedBytes(bytes);
  const places: number[] = [];
  for (let at = 0; at < end; at++) {
    const unused = at >= 56 && at < HEADER_BYTES;
    const repeated = bytes[at] === 0x78 && bytes[at + 1] === 0x78;
    if ((!unused && !repeated) || at % 499 === 0) places.push(at);
  }
  return places;
}

function flip(bytes: Buffer, at: number, bit = 0): void {
  bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
}
