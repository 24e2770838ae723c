// What only the portable engine can show, since its files are exchangeable: every failing call, and the order of calls.
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { LogEngine } from '../../src/ts/wal/engine.js';
import { openPortable } from '../../src/ts/wal/portable.js';
import { type Call, FailingFiles } from './failing_files.js';
import { append, entriesOf, entry, identity, state, temporaryFolder, text } from './fixture.js';
import { LosingFiles } from './losing_files.js';

function openOn(files: FailingFiles, folder: string): Promise<LogEngine> {
  return openPortable({ folder, identity, segment_bytes: 8192 }, { files });
}

/** Fills several segments and truncates: every kind of call happens. Returns the instances reported durable. */
async function work(log: LogEngine, durable: Set<number>, onFailure: (error: unknown) => void): Promise<void> {
  for (let instance = 1; instance <= 8; instance++) {
    const records = [entry(1, instance, `${instance}`.repeat(1800)), state(2, 0, String(instance))];
    await append(log, ...records).then(() => durable.add(instance), onFailure);
    if (instance === 5) log.truncate(1, 3);
  }
}

const kinds: readonly [Call, number][] = [
  ['write', 30],
  ['sync', 30],
  ['create', 6],
  ['rename', 8],
  ['syncFolder', 8],
];
for (const [call, count] of kinds) {
  test(`a failing ${call} poisons the log once and for all, and costs nothing that was reported durable`, async (t) => {
    t.timeout(120_000);
    for (let after = 0; after < count; after++) {
      const folder = join(temporaryFolder(t), 'log');
      const files = new FailingFiles();
      const log = await openOn(files, folder);
      files.failOn(call, after);
      const durable = new Set<number>();
      const failures: unknown[] = [];
      await work(log, durable, (error) => failures.push(error));
      if (failures.length > 0) {
        t.is(new Set(failures).size, 1, 'one failure, told to all');
        // What was being done beside the writing may end.
        await log.settled();
        const calls = files.calls.length;
        await t.throwsAsync(append(log, entry(1, 100, 'late')), { code: 'LOG_POISONED', message: /EIO/ });
        for (const instance of durable) if (instance >= 3) t.is((await log.read(1, instance))?.length, 1800);
        await log.close();
        t.is(files.calls.length, calls, 'nothing is written after a failure');
      } else {
        // The failing call may be one of the close itself.
        await log.close().catch((error: unknown) => t.like(error, { code: 'LOG_IO' }));
      }
      t.is(files.open_files, 0);
      await checkSurvivors(t, folder, durable);
    }
  });
}

async function checkSurvivors(t: ExecutionContext, folder: string, durable: Set<number>): Promise<void> {
  const log = await openOn(new FailingFiles(), folder);
  t.deepEqual(log.recovery.corrupt, []);
  for (const instance of durable)
    if (instance >= 3) t.is(text(await log.read(1, instance)), `${instance}`.repeat(1800));
  t.true(Number(text(log.state(2, 0)) ?? 0) >= Math.max(0, ...durable));
  await log.close();
}

test('a failing call while opening is LOG_IO, leaves nothing open and nothing locked', async (t) => {
  const folder = join(temporaryFolder(t), 'log');
  const calls: readonly [Call, number][] = [
    ['create', 0],
    ['write', 0],
    ['rename', 0],
    ['syncFolder', 0],
    ['sync', 0],
  ];
  for (const [call, after] of calls) {
    const files = new FailingFiles();
    files.failOn(call, after);
    await t.throwsAsync(openOn(files, join(temporaryFolder(t), 'log')), { code: 'LOG_IO', message: /EIO/ });
    t.is(files.open_files, 0, call);
  }
  const log = await openOn(new FailingFiles(), folder);
  await append(log, entry(1, 1, 'fine'));
  await log.close();
  for (const call of ['sync', 'syncFolder'] as const) {
    const files = new FailingFiles();
    files.failOn(call);
    await t.throwsAsync(openOn(files, folder), { code: 'LOG_IO' });
    t.is(files.open_files, 0, call);
  }
  const again = await openOn(new FailingFiles(), folder);
  t.deepEqual(await entriesOf(again, 1), [[1, 'fine']]);
  await again.close();
});

test('a segment gets its name after its blocks and its header are durable, and is used after its name is', async (t) => {
  const files = new FailingFiles();
  const log = await openOn(files, join(temporaryFolder(t), 'log'));
  const make = ['create', 'write', 'sync', 'write', 'sync'];
  const marks = ['create', 'write', 'write', 'sync', 'rename', 'syncFolder'];
  t.deepEqual(files.calls.slice(0, 15), [...marks, ...make, 'rename', 'syncFolder', 'write', 'sync']);
  await log.settled();
  t.deepEqual(files.calls.slice(15), make, 'the spare');
  files.calls.length = 0;
  await append(log, entry(1, 1, 'one'));
  t.deepEqual(files.calls, ['write', 'sync']);
  await append(log, entry(1, 2, 'x'.repeat(3980)));
  await log.settled();
  const next = files.calls.slice(2);
  t.deepEqual(next.slice(0, 5), ['write', 'sync', 'rename', 'syncFolder', 'write'], 'the seal, the name, the record');
  t.true(next.slice(5).includes('create'), 'and another spare');
  await log.close();
});

test('what recovery found is durable before anybody sees it', async (t) => {
  const folder = join(temporaryFolder(t), 'log');
  const log = await openOn(new FailingFiles(), folder);
  await append(log, entry(1, 1, 'one'));
  await log.settled();
  await log.close();
  const files = new FailingFiles();
  const again = await openOn(files, folder);
  const marks = ['write', 'sync'];
  const spare = ['write', 'sync'];
  // Behind a clean close it notes that it was there.
  const expected = [...marks, 'syncFolder', 'sync', ...spare, ...marks, ...marks];
  t.deepEqual(files.calls, expected, 'what was found is written again');
  await again.close();
});

test('appends that come one after the other are all taken up', async (t) => {
  const log = await openOn(new FailingFiles(), join(temporaryFolder(t), 'log'));
  for (let instance = 1; instance <= 50; instance++) await append(log, entry(1, instance, 'one at a time'));
  t.is(log.stats().syncs, 50);
  await log.close();
});

test('on a disk that answers at once the log goes on from segment to segment', async (t) => {
  const files = new LosingFiles();
  const log = await openPortable({ folder: 'log', identity, segment_bytes: 16 * 1024 }, { files });
  for (let instance = 1; instance <= 100; instance++) {
    await append(log, entry(1, instance, Buffer.alloc(5_000)));
    log.truncate(1, instance);
  }
  await log.settled();
  t.is((await log.read(1, 100))?.length, 5_000);
  await log.close();
});
