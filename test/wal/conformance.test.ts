// What engine.ts promises, held by both engines.
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { append, engines, entriesOf, entry, filesOf, identity, open, state, temporaryFolder, text } from './fixture.js';

for (const engine of engines) {
  const openHere = (t: ExecutionContext, folder: string, segment_bytes = 64 * 1024) =>
    open(t, engine, folder, { segment_bytes });

  test(`${engine}: a new log is empty`, async (t) => {
    const log = await openHere(t, join(temporaryFolder(t), 'log'));
    t.is(log.engine, engine);
    t.deepEqual(log.groups(), []);
    t.is(log.bounds(1), null);
    t.false(log.has(1, 1));
    t.is(log.state(1, 1), null);
    t.is(await log.read(1, 1), null);
    t.deepEqual(await log.readRange(1, 0, 100, 1000), []);
    t.deepEqual(
      { ...log.recovery, elapsed_ms: 0 },
      {
        segments: 0,
        records: 0,
        bytes: 0,
        torn_bytes: 0,
        corrupt: [],
        damaged_marks: 0,
        elapsed_ms: 0,
      },
    );
  });

  test(`${engine}: what was appended is there, now and after reopening`, async (t) => {
    const folder = join(temporaryFolder(t), 'log');
    const largest = 2 ** 53 - 1;
    const log = await openHere(t, folder);
    await append(log, entry(7, 1, 'one'), entry(7, 3, ''), state(7, 0, 'promise'));
    const parts = ['a', '', 'bc'].map((part) => Buffer.from(part));
    await append(log, { kind: 1, group: 2 ** 32 - 1, instance: largest, body: parts }, state(9, largest, ''));
    await append(log, entry(7, 1, 'one again'), state(7, 0, 'a higher promise'));
    const check = async (opened: typeof log): Promise<void> => {
      t.deepEqual(opened.groups(), [7, 9, 2 ** 32 - 1]);
      t.deepEqual(opened.bounds(7), { first: 1, last: 3 });
      t.is(opened.bounds(9), null);
      t.true(opened.has(7, 3));
      t.false(opened.has(7, 2));
      t.is(text(await opened.read(7, 1)), 'one again');
      t.is(text(await opened.read(7, 3)), '');
      t.is(await opened.read(7, 2), null);
      t.is(text(await opened.read(2 ** 32 - 1, largest)), 'abc');
      t.is(text(opened.state(7, 0)), 'a higher promise');
      t.is(text(opened.state(9, largest)), '');
      t.is(opened.state(7, 1), null);
    };
    await check(log);
    await log.close();
    const reopened = await openHere(t, folder);
    t.is(reopened.recovery.records, 7);
    t.is(reopened.recovery.torn_bytes, 0);
    t.deepEqual(reopened.recovery.corrupt, []);
    await check(reopened);
  });

  test(`${engine}: each append is reported once, in order, later`, async (t) => {
    const log = await openHere(t, join(temporaryFolder(t), 'log'));
    const order: number[] = [];
    const all: Promise<void>[] = [];
    for (let number = 0; number < 300; number++) {
      const records = number % 10 === 3 ? [] : [entry(1, number, `body ${number}`)];
      const durable = new Promise<void>((resolve) => {
        log.append(records, (error) => {
          t.is(error, null);
          t.true(records.length === 0 || log.has(1, number));
          order.push(number);
          resolve();
        });
      });
      all.push(durable);
      if (number % 50 === 49) await durable;
    }
    await Promise.all(all);
    t.deepEqual(
      order,
      Array.from({ length: 300 }, (_, number) => number),
    );
    t.true(log.stats().syncs < 100, 'appends of one turn share a sync');
    t.is(log.stats().appended_records, 270);
  });

  test(`${engine}: an append does not keep the bodies`, async (t) => {
    const log = await openHere(t, join(temporaryFolder(t), 'log'));
    const body = Buffer.from('before');
    const durable = append(log, { kind: 1, group: 1, instance: 1, body: [body] });
    // Until the end of the turn, its microtasks included.
    await new Promise((resolve) => setImmediate(resolve));
    body.fill(0);
    await durable;
    t.is(text(await log.read(1, 1)), 'before');
  });

  test(`${engine}: a range is ascending, leaves out holes, ends at its limit`, async (t) => {
    const log = await openHere(t, join(temporaryFolder(t), 'log'), 8192);
    for (const instance of [900, 5, 300, 6, 299, 7]) await append(log, entry(1, instance, 'x'.repeat(1000)));
    const instances = async (from: number, through: number, bytes_max: number): Promise<number[]> => {
      return (await log.readRange(1, from, through, bytes_max)).map(({ instance }) => instance);
    };
    t.deepEqual(await instances(0, 1000, 1e9), [5, 6, 7, 299, 300, 900]);
    t.deepEqual(await instances(6, 300, 1e9), [6, 7, 299, 300]);
    t.deepEqual(await instances(0, 1000, 2999), [5, 6]);
    t.deepEqual(await instances(0, 1000, 3000), [5, 6, 7]);
    t.deepEqual(await instances(0, 1000, 0), [5]);
    t.deepEqual(await instances(8, 298, 1e9), []);
    t.deepEqual(await instances(9, 8, 1e9), []);
  });

  test(`${engine}: segments follow each other, and what does not fit changes nothing`, async (t) => {
    const folder = join(temporaryFolder(t), 'log');
    const log = await openHere(t, folder, 8192);
    const fitting = 8192 - 4096 - 40 - 40;
    t.throws(() => log.append([entry(1, 1, 'x'.repeat(fitting + 1))], () => t.fail()), { code: 'SIZE_TOO_LARGE' });
    t.throws(() => log.append([entry(1, 1, 'x'), entry(1, 2, 'x'.repeat(fitting - 8))], () => t.fail()), {
      code: 'SIZE_TOO_LARGE',
    });
    for (let instance = 1; instance <= 5; instance++) await append(log, entry(1, instance, 'x'.repeat(fitting)));
    t.is(log.stats().segments, 5);
    await log.close();
    const reopened = await openHere(t, folder, 16384);
    t.is(reopened.recovery.records, 5);
    t.deepEqual(reopened.recovery.corrupt, []);
    await append(reopened, entry(1, 6, 'y'.repeat(9000)));
    t.is((await reopened.readRange(1, 1, 9, 1e9)).length, 6);
  });

  test(`${engine}: a defect of the caller is an assertion, and nothing is appended`, async (t) => {
    const log = await openHere(t, join(temporaryFolder(t), 'log'));
    for (const record of [entry(-1, 1, ''), entry(2 ** 32, 1, ''), entry(1, -1, ''), entry(1, 2 ** 53, '')]) {
      t.throws(() => log.append([entry(1, 1, 'fine'), record], () => t.fail()), { name: 'AssertionError' });
    }
    t.is(log.stats().appended_records, 0);
    await append(log, entry(1, 2, 'next'));
    t.deepEqual(await entriesOf(log, 1), [[2, 'next']]);
  });

  test(`${engine}: truncation deletes segments, old ones in the middle too, and keeps states`, async (t) => {
    const folder = join(temporaryFolder(t), 'log');
    const log = await openHere(t, folder, 8192);
    await append(log, state(5, 0, 'of the first segment'));
    await append(log, entry(2, 1, 'slow queue'));
    for (let instance = 1; instance <= 40; instance++) {
      await append(log, entry(1, instance, Buffer.alloc(1000, instance)), state(6, instance % 2, `${instance}`));
    }
    const before = log.stats().segments;
    t.true(before > 10);
    const range = log.readRange(1, 1, 40, 1e9);
    log.truncate(1, 40);
    t.is((await range).length, 40, 'a read that began goes on');
    t.deepEqual(log.bounds(1), { first: 40, last: 40 });
    t.is(await log.read(1, 39), null);
    await append(log, entry(3, 1, 'later'));
    await log.settled();
    t.true(log.stats().segments <= 3, 'what lives of the old segments was moved');
    t.true(log.stats().rewritten_bytes > 0);
    t.deepEqual(await entriesOf(log, 2), [[1, 'slow queue']]);
    await log.close();
    const reopened = await openHere(t, folder, 8192);
    t.deepEqual(reopened.recovery.corrupt, []);
    t.is(text(reopened.state(5, 0)), 'of the first segment');
    t.is(text(reopened.state(6, 1)), '39');
    t.is(text(reopened.state(6, 0)), '40');
    t.deepEqual(await entriesOf(reopened, 2), [[1, 'slow queue']]);
    // Truncation is not written: the caller says it again.
    reopened.truncate(1, 40);
    reopened.truncate(2, 2);
    reopened.truncate(99, 5);
    await reopened.close();
    const last = await openHere(t, folder, 8192);
    t.is(text(last.state(5, 0)), 'of the first segment');
    t.deepEqual(
      last.groups().filter((group) => group !== 2),
      [1, 3, 5, 6],
    );
  });

  test(`${engine}: close writes what waits; later calls fail`, async (t) => {
    const folder = join(temporaryFolder(t), 'log');
    const log = await openHere(t, folder);
    const durable = append(log, entry(1, 1, 'waiting'));
    const closed = log.close();
    t.is(log.close(), closed, 'closing twice is closing once');
    await durable;
    await closed;
    await t.throwsAsync(append(log, entry(1, 2, '')), { code: 'LOG_CLOSED' });
    await t.throwsAsync(log.read(1, 1), { code: 'LOG_CLOSED' });
    await t.throwsAsync(log.readRange(1, 1, 1, 1), { code: 'LOG_CLOSED' });
    t.throws(() => log.truncate(1, 1), { code: 'LOG_CLOSED' });
    t.deepEqual([...filesOf(folder).keys()].slice(0, 1), ['0000000001.seg']);
    t.false([...filesOf(folder).keys()].some((name) => name === '0000000002.seg'));
    t.deepEqual(await entriesOf(await openHere(t, folder), 1), [[1, 'waiting']]);
  });

  test(`${engine}: a folder of another identity is refused, unchanged`, async (t) => {
    const folder = join(temporaryFolder(t), 'log');
    const log = await openHere(t, folder);
    await append(log, entry(1, 1, 'mine'));
    await log.close();
    const before = filesOf(folder);
    const other = Uint8Array.from(identity, (byte) => byte ^ 1);
    const error = await t.throwsAsync(open(t, engine, folder, { identity: other }), { code: 'LOG_IDENTITY' });
    t.regex(error?.message ?? '', /a5a5.*a4a4/);
    t.deepEqual(filesOf(folder), before);
  });

  test(`${engine}: a parent that is missing is an input/output error`, async (t) => {
    const folder = join(temporaryFolder(t), 'missing', 'log');
    await t.throwsAsync(openHere(t, folder), { code: 'LOG_IO', message: /cannot open the log in .*missing/ });
  });

  test(`${engine}: files of others and unused segments do not disturb`, async (t) => {
    const folder = join(temporaryFolder(t), 'log');
    mkdirSync(folder);
    for (const name of ['notes.txt', '1.seg', '0000000000.seg', '0000000002.seg.new']) {
      writeFileSync(join(folder, name), 'x');
    }
    const log = await openHere(t, folder);
    await append(log, entry(1, 1, 'fine'));
    await log.close();
    const names = [...filesOf(folder).keys()].filter((name) => name !== '0000000002.seg.new');
    t.deepEqual(names, ['0000000000.seg', '0000000001.seg', '1.seg', 'marks', 'notes.txt']);
    t.not(filesOf(folder).get('0000000002.seg.new')?.length, 1, 'a spare that is none is not used');
  });

  test(`${engine}: one holder at a time, and a long path changes nothing`, async (t) => {
    const deep = join(temporaryFolder(t), 'long'.repeat(30));
    mkdirSync(deep);
    for (const folder of [join(temporaryFolder(t), 'log'), join(deep, 'log')]) {
      const log = await openHere(t, folder);
      for (const other of engines) {
        await t.throwsAsync(open(t, other, folder), { code: 'LOG_LOCKED', message: /in use by another process/ });
      }
      await append(log, entry(1, 1, 'held'));
      await log.close();
      for (const other of engines) {
        const next = await open(t, other, folder);
        t.deepEqual(await entriesOf(next, 1), [[1, 'held']]);
        await next.close();
      }
    }
  });

  test(`${engine}: a failed write poisons the log; what was durable stays readable`, async (t) => {
    const folder = join(temporaryFolder(t), 'log');
    const log = await openHere(t, folder, 8192);
    await append(log, entry(1, 1, 'durable'), state(1, 0, 'durable'));
    renameSync(folder, `${folder}.away`);
    // These need a new segment, which has no place to be.
    const outcomes = [2, 3, 4].map((instance) => append(log, entry(1, instance, 'x'.repeat(4000))));
    for (const outcome of outcomes) await t.throwsAsync(outcome, { code: 'LOG_POISONED', message: /ENOENT|No such/ });
    await t.throwsAsync(append(log, entry(1, 5, 'late')), { code: 'LOG_POISONED' });
    t.is(text(await log.read(1, 1)), 'durable');
    t.is(text(log.state(1, 0)), 'durable');
    log.truncate(1, 1);
    await log.close();
    const reopened = await openHere(t, `${folder}.away`, 8192);
    t.is(text(await reopened.read(1, 1)), 'durable');
    t.deepEqual(reopened.recovery.corrupt, []);
  });

  test(`${engine}: damage that was replaced is forgotten for good, and nothing sound with it`, async (t) => {
    const folder = join(temporaryFolder(t), 'log');
    const log = await openHere(t, folder, 8192);
    // Three in each segment, with what of the first two lives on in memory only.
    for (let instance = 1; instance <= 12; instance++) {
      await append(log, entry(1, instance, Buffer.alloc(1200, instance)), state(2, instance, `state ${instance}`));
    }
    await log.settled();
    await log.close();
    const [damaged, missing] = ['0000000001.seg', '0000000002.seg'];
    const bytes = readFileSync(join(folder, damaged));
    bytes.fill(0, 4096, 4096 + 40);
    writeFileSync(join(folder, damaged), bytes);
    rmSync(join(folder, missing));
    const keyless = { group: null, instance: null };
    const reported = [
      { segment: 1, offset: 4096, ...keyless },
      { segment: 2, offset: 0, ...keyless },
    ];
    for (let opening = 1; opening <= 2; opening++) {
      const opened = await openHere(t, folder, 8192);
      const bySegment = [...opened.recovery.corrupt].sort((a, b) => a.segment - b.segment);
      t.deepEqual(bySegment, reported, `opening ${opening}`);
      await opened.settled();
      await opened.close();
    }
    const before = await openHere(t, folder, 8192);
    const sound = await entriesOf(before, 1);
    t.is(sound.length, 8);
    const states = Array.from({ length: 12 }, (_, slot) => text(before.state(2, slot + 1)));
    t.is(states.filter((body) => body !== null).length, 9, 'all but those of the missing segment');
    before.forgetDamage();
    await before.settled();
    t.false(existsSync(join(folder, damaged)));
    await before.close();
    t.throws(() => before.forgetDamage(), { code: 'LOG_CLOSED' });
    const after = await openHere(t, folder, 8192);
    t.deepEqual(after.recovery.corrupt, []);
    t.deepEqual(await entriesOf(after, 1), sound);
    const kept = Array.from({ length: 12 }, (_, slot) => text(after.state(2, slot + 1)));
    t.deepEqual(kept, states);
  });

  test(`${engine}: damage in the newest segment and lost marks are forgotten, too; damage with a key is not`, async (t) => {
    const folder = join(temporaryFolder(t), 'log');
    const log = await openHere(t, folder);
    for (let instance = 1; instance <= 4; instance++) await append(log, entry(1, instance, `body ${instance}`));
    await log.close();
    const path = join(folder, '0000000001.seg');
    const bytes = readFileSync(path);
    bytes.fill(0, 4096, 4096 + 40);
    const body = bytes.indexOf('body 3');
    bytes[body] = (bytes[body] ?? 0) ^ 1;
    writeFileSync(path, bytes);
    rmSync(join(folder, 'marks'));
    const opened = await openHere(t, folder);
    t.is(opened.recovery.corrupt.length, 3);
    opened.forgetDamage();
    await opened.settled();
    await opened.close();
    const again = await openHere(t, folder);
    const found = again.recovery.corrupt.map(({ segment, instance }) => [segment, instance]);
    t.deepEqual(
      found,
      [
        [1, null],
        [1, 3],
      ],
      'what is damaged and has a key holds its segment',
    );
    await append(again, entry(1, 3, 'fetched again'));
    again.forgetDamage();
    await again.settled();
    await again.close();
    const last = await openHere(t, folder);
    t.deepEqual(last.recovery.corrupt, []);
    t.deepEqual(await entriesOf(last, 1), [
      [2, 'body 2'],
      [3, 'fetched again'],
      [4, 'body 4'],
    ]);
  });
}
