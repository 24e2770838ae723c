import test from 'ava';
import { PhxError } from '../../src/ts/errors.js';
import { LogWriter, PORTION_BYTES_MAX, UNDER_WAY_BYTES_MAX } from '../../src/ts/paxos/log_writer.js';
import { type LogRecord, RecordKind } from '../../src/ts/wal/engine.js';
import { type FakeLog, fakeLog } from './fake_log.js';

function record(instance: number, bytes: number): LogRecord {
  return { kind: RecordKind.entry, group: 0, instance, body: [new Uint8Array(bytes)] };
}

interface Writing extends FakeLog {
  readonly writer: LogWriter;
  readonly durable: string[];
  readonly failures: Error[];
}

function writing(): Writing {
  const fake = fakeLog();
  const durable: string[] = [];
  const failures: Error[] = [];
  const writer = new LogWriter(
    fake.log,
    (group, append) => durable.push(`${group}:${append}`),
    (error) => failures.push(error),
  );
  return { ...fake, writer, durable, failures };
}

test('one turn is one append, and each group hears of its last', (t) => {
  const { writer, appends, durable } = writing();
  writer.add(0, 1, [record(1, 10), record(2, 10)]);
  writer.add(1, 1, [record(1, 10)]);
  writer.add(0, 2, [record(3, 10)]);
  t.is(appends.length, 0);
  writer.flush();
  t.deepEqual(
    appends.map(({ instances }) => instances),
    [[1, 2, 1, 3]],
  );
  t.deepEqual(durable, []);
  appends[0]?.done(null);
  t.deepEqual(durable, ['0:2', '1:1']);
});

test('what exceeds a portion is split, and durable with its last record', (t) => {
  const { writer, appends, durable } = writing();
  const third = Math.ceil(PORTION_BYTES_MAX / 3);
  writer.add(
    0,
    1,
    [1, 2, 3, 4, 5].map((instance) => record(instance, third)),
  );
  writer.flush();
  t.deepEqual(
    appends.map(({ instances }) => instances),
    [[1, 2], [3, 4], [5]],
  );
  for (const { bytes } of appends) t.true(bytes <= PORTION_BYTES_MAX);
  appends[0]?.done(null);
  appends[1]?.done(null);
  t.deepEqual(durable, []);
  appends[2]?.done(null);
  t.deepEqual(durable, ['0:1']);
});

test('a group is settled when all that was added for it is durable and reported', async (t) => {
  const { writer, appends, durable } = writing();
  await writer.settled(0);
  writer.add(0, 1, [record(1, PORTION_BYTES_MAX)]);
  writer.add(0, 2, [record(2, 10)]);
  writer.add(1, 1, [record(1, 10)]);
  const settled = writer.settled(0).then(() => durable.push('settled'));
  writer.flush();
  appends[0]?.done(null);
  writer.add(1, 2, [record(2, 10)]);
  appends[1]?.done(null);
  await settled;
  t.deepEqual(durable, ['0:1', '0:2', '1:1', 'settled']);
});

test('a record larger than a portion travels alone', (t) => {
  const { writer, appends } = writing();
  writer.add(0, 1, [record(1, 10), record(2, PORTION_BYTES_MAX + 1), record(3, 10)]);
  writer.flush();
  t.deepEqual(
    appends.map(({ instances }) => instances),
    [[1], [2], [3]],
  );
});

test('a slow disk is not given more than it may have, and gets the rest later', (t) => {
  const { writer, appends, durable } = writing();
  const count = (2 * UNDER_WAY_BYTES_MAX) / PORTION_BYTES_MAX;
  for (let append = 1; append <= count; append += 1) writer.add(0, append, [record(append, PORTION_BYTES_MAX)]);
  writer.flush();
  t.is(appends.length, count / 2);
  for (let index = 0; index < count; index += 1) appends[index]?.done(null);
  t.is(appends.length, count);
  t.is(durable.at(-1), `0:${count}`);
});

test('a failed append stops everything, and is told once', (t) => {
  const { writer, appends, durable, failures } = writing();
  writer.add(0, 1, [record(1, 10)]);
  writer.flush();
  writer.add(0, 2, [record(2, 10)]);
  writer.flush();
  const failure = new PhxError('LOG_POISONED', 'no space');
  for (const { done } of appends) done(failure);
  t.deepEqual(failures, [failure]);
  t.deepEqual(durable, []);
  writer.add(0, 3, [record(3, 10)]);
  writer.flush();
  t.is(appends.length, 2);
});

test('an append that the log refuses is a failure, not an exception', (t) => {
  const { writer, failures, refuse } = writing();
  refuse(new PhxError('SIZE_TOO_LARGE', 'does not fit'));
  writer.add(0, 1, [record(1, 10)]);
  t.notThrows(() => writer.flush());
  t.is(failures.length, 1);
});

test('what a full disk has no room for waits, and all behind it, until there is room', (t) => {
  const { writer, appends, durable, failures, refuse } = writing();
  refuse(new PhxError('LOG_FULL', 'no space for another segment', { retryable: true }));
  writer.add(0, 1, [record(1, 10)]);
  writer.flush();
  writer.add(0, 2, [record(2, PORTION_BYTES_MAX)]);
  writer.flush();
  t.deepEqual(failures, []);
  t.is(appends.length, 0);
  t.is(writer.waiting_bytes, 56 + 40 + PORTION_BYTES_MAX);
  refuse(null);
  writer.flush();
  t.deepEqual(
    appends.map(({ instances }) => instances),
    [[1], [2]],
  );
  t.is(writer.waiting_bytes, 0);
  for (const { done } of appends) done(null);
  t.deepEqual(durable, ['0:1', '0:2']);
});

test('many small records are split by what they take in the log', (t) => {
  const { writer, appends } = writing();
  const count = PORTION_BYTES_MAX / 48 + 1;
  for (let append = 1; append <= count; append += 1) writer.add(0, append, [record(append, 8)]);
  writer.flush();
  t.is(appends.length, 2);
});

test('after close nothing is reported', (t) => {
  const { writer, appends, durable, failures } = writing();
  writer.add(0, 1, [record(1, 10)]);
  writer.flush();
  writer.close();
  appends[0]?.done(null);
  t.deepEqual(durable, []);
  t.deepEqual(failures, []);
});
