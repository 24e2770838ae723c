import test from 'ava';
import { PhxError } from '../../src/ts/errors.js';
import { CHECKPOINT_BYTES_MAX, CHUNK_BYTES, SLOT_CHECKPOINT, shadowGroupOf } from '../../src/ts/paxos/checkpoint.js';
import { CheckpointStore, type NewCheckpoint } from '../../src/ts/paxos/checkpoint_store.js';
import { decodeConfigurations, encodeConfigurations } from '../../src/ts/paxos/configurations.js';
import { ballotFrom } from '../../src/ts/paxos/core/ballot.js';
import { recordOf, restoreGroup } from '../../src/ts/paxos/records.js';
import { type LogEngine, RecordKind } from '../../src/ts/wal/engine.js';
import type { LogFiles } from '../../src/ts/wal/files.js';
import { openPortable } from '../../src/ts/wal/portable.js';
import { append, entry, filesOf, folderInMemory, identity, open, putFiles, state } from '../wal/fixture.js';
import { LosingFiles } from '../wal/losing_files.js';
import { BEGINNING, FOUNDERS } from './beginning.js';

const GROUP = 5;
const SHADOW = shadowGroupOf(GROUP);
/** A state that this test writes behind a checkpoint. */
const SLOT_OF_OTHERS = 9;
/** Room for a chunk and little else, so that few checkpoints take many segments. */
const SEGMENT_BYTES = 2 * 1024 * 1024;

const states = new Map<string, Buffer>();

/** Bytes that differ from checkpoint to checkpoint and from place to place. */
function stateOf(instance: number, bytes: number): Buffer {
  const key = `${instance} ${bytes}`;
  const filled = states.get(key) ?? Buffer.alloc(bytes);
  if (states.has(key)) return filled;
  states.set(key, filled);
  for (let at = 0; at + 4 <= bytes; at += 4) filled.writeUInt32LE((instance * 0x9e3779b1 + at) >>> 0, at);
  return filled;
}

function checkpoint(instance: number, bytes = 100, changes: Partial<NewCheckpoint> = {}): NewCheckpoint {
  return {
    instance,
    chain: instance * 7,
    first_needed: instance - 1,
    first_retained: instance - 2,
    own_through: instance,
    configurations: encodeConfigurations([FOUNDERS]),
    state: [stateOf(instance, bytes)],
    retention: [Buffer.from(`retention ${instance}`)],
    ...changes,
  };
}

async function instancesOf(log: LogEngine, group: number): Promise<number[]> {
  const entries = await log.readRange(group, 0, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
  return entries.map(({ instance }) => instance);
}

test('a checkpoint is read back after the log was opened again', async (t) => {
  const folder = folderInMemory(t);
  const options = { segment_bytes: SEGMENT_BYTES };
  const log = await open(t, 'portable', folder, options);
  t.is(await new CheckpointStore(log).read(GROUP), null);
  for (const bytes of [0, 1, CHUNK_BYTES - 7, CHUNK_BYTES, 3 * CHUNK_BYTES + 17]) {
    const made = checkpoint(10 + bytes, bytes);
    const written = await new CheckpointStore(log).write(GROUP, made);
    const read = await new CheckpointStore(log).read(GROUP);
    t.deepEqual(read?.record, written);
    t.true(Buffer.from(read?.payload.state ?? []).equals(stateOf(10 + bytes, bytes)));
    t.deepEqual(decodeConfigurations(read?.payload.configurations ?? new Uint8Array()), [FOUNDERS]);
    t.is(Buffer.from(read?.payload.retention ?? []).toString(), `retention ${10 + bytes}`);
  }
  const [last] = [new CheckpointStore(log).record(GROUP)];
  await log.close();
  const again = await open(t, 'portable', folder, options);
  const read = await new CheckpointStore(again).read(GROUP);
  t.deepEqual(read?.record, last);
  t.is(read?.record.chain, (10 + 3 * CHUNK_BYTES + 17) * 7);
});

test('an empty payload has no chunk', async (t) => {
  const log = await open(t, 'portable', folderInMemory(t));
  const store = new CheckpointStore(log);
  await store.write(GROUP, checkpoint(5, 0, { configurations: [], retention: [] }));
  t.is(log.bounds(SHADOW), null);
  t.is((await new CheckpointStore(log).read(GROUP))?.payload.state.length, 0);
});

test('what a checkpoint replaces is truncated once it is durable, and chunks never share a number', async (t) => {
  const log = await open(t, 'portable', folderInMemory(t), { segment_bytes: SEGMENT_BYTES });
  await append(log, ...Array.from({ length: 12 }, (_, i) => entry(GROUP, i + 1, 'value')));
  const store = new CheckpointStore(log);
  await store.write(GROUP, checkpoint(5, 2 * CHUNK_BYTES));
  t.deepEqual(await instancesOf(log, GROUP), [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  t.deepEqual(await instancesOf(log, SHADOW), [1, 2, 3]);
  await new CheckpointStore(log).write(GROUP, checkpoint(10, CHUNK_BYTES));
  t.deepEqual(await instancesOf(log, GROUP), [8, 9, 10, 11, 12]);
  t.deepEqual(await instancesOf(log, SHADOW), [4, 5]);
});

test('a group whose checkpoint is pinned keeps its chunks while newer ones are written', async (t) => {
  const log = await open(t, 'portable', folderInMemory(t), { segment_bytes: SEGMENT_BYTES });
  const store = new CheckpointStore(log);
  t.is(store.pin(GROUP), null);
  await store.write(GROUP, checkpoint(5, 2 * CHUNK_BYTES));
  const pin = store.pin(GROUP);
  await store.write(GROUP, checkpoint(10));
  t.deepEqual(await instancesOf(log, SHADOW), [1, 2, 3, 4]);
  const newer = store.pin(GROUP);
  await store.write(GROUP, checkpoint(15));
  const record = pin?.record;
  if (record === undefined) throw new Error('the checkpoint was pinned');
  const [part] = await store.readAt(GROUP, record, CHUNK_BYTES + 4, 12);
  const at = CHUNK_BYTES + 4 - record.configurations_bytes;
  t.deepEqual(Buffer.from(part ?? []), stateOf(5, 2 * CHUNK_BYTES).subarray(at, at + 12));
  pin?.release();
  t.deepEqual(await instancesOf(log, SHADOW), [4, 5]);
  newer?.release();
  newer?.release();
  t.deepEqual(await instancesOf(log, SHADOW), [5]);
});

test('a payload above the limit is refused, and the checkpoint before stays', async (t) => {
  const log = await open(t, 'portable', folderInMemory(t));
  const store = new CheckpointStore(log);
  await store.write(GROUP, checkpoint(5));
  const part = Buffer.alloc(CHUNK_BYTES);
  const parts = Array.from({ length: CHECKPOINT_BYTES_MAX / CHUNK_BYTES }, () => part);
  await t.throwsAsync(store.write(GROUP, checkpoint(10, 1, { state: parts })), { code: 'SIZE_TOO_LARGE' });
  t.is((await store.read(GROUP))?.record.instance, 5);
});

test('a log that refuses a chunk leaves the checkpoint before valid, and numbers are not used again', async (t) => {
  const log = await open(t, 'portable', folderInMemory(t), { segment_bytes: SEGMENT_BYTES });
  let refused = Number.POSITIVE_INFINITY;
  const refusing: LogEngine = Object.create(log, {
    append: {
      value: (...[records, done]: Parameters<LogEngine['append']>) => {
        refused -= 1;
        if (refused < 0) throw new PhxError('LOG_FULL', 'no room', { retryable: true });
        log.append(records, done);
      },
    },
  });
  const store = new CheckpointStore(refusing);
  await store.write(GROUP, checkpoint(5));
  refused = 2;
  await t.throwsAsync(store.write(GROUP, checkpoint(10, 2 * CHUNK_BYTES)), { code: 'LOG_FULL' });
  t.is((await store.read(GROUP))?.record.instance, 5);
  refused = Number.POSITIVE_INFINITY;
  const { first_chunk } = await store.write(GROUP, checkpoint(10));
  t.true(first_chunk > 3);
  t.deepEqual(await instancesOf(log, SHADOW), [first_chunk]);
});

test('a damaged chunk or record of the newest checkpoint is LOG_CORRUPT, never an older checkpoint', async (t) => {
  const folder = folderInMemory(t);
  const log = await open(t, 'portable', folder);
  await appendValues(log, 12);
  const store = new CheckpointStore(log);
  await store.write(GROUP, checkpoint(5, 1_000));
  await store.write(GROUP, checkpoint(10, 1_000));
  // Something behind it, so that damage does not pass for a torn tail.
  await append(log, state(GROUP, SLOT_OF_OTHERS, 'later'));
  await log.close();
  const files = filesOf(folder);
  const segment = files.get('0000000001.seg');
  if (segment === undefined) throw new Error('the segment is there');
  const slot = Buffer.from([RecordKind.state, 0, GROUP, 0, 0, 0, SLOT_CHECKPOINT]);
  const places: [number, RegExp][] = [
    [segment.indexOf(stateOf(10, 1_000)) + 500, /is damaged/],
    [segment.lastIndexOf(Buffer.from('retention 10')), /is damaged/],
    [segment.lastIndexOf(slot) + 60, /slot 2 is damaged/],
  ];
  for (const [at, why] of places) {
    t.true(at > 1_000);
    const damaged = Buffer.from(segment);
    damaged[at] = (damaged[at] ?? 0) ^ 1;
    putFiles(folder, new Map([...files, ['0000000001.seg', damaged]]));
    const reopened = await open(t, 'portable', folder);
    const nothing = {
      restore: () => t.fail(),
      reindex: () => t.fail(),
      restored: () => t.fail(),
      apply: () => t.fail(),
    };
    const restoring = restoreGroup(reopened, new CheckpointStore(reopened), GROUP, BEGINNING, nothing);
    t.regex((await t.throwsAsync(restoring, { code: 'LOG_CORRUPT' })).message, why);
    await reopened.close();
  }
});

/** Entries of the group as the protocol writes them: each says that all before it are chosen. */
async function appendValues(log: LogEngine, through: number): Promise<void> {
  const instances = Array.from({ length: through }, (_, i) => i + 1);
  const writes = instances.map((instance) =>
    recordOf(GROUP, {
      type: 'entry',
      instance,
      ballot: ballotFrom(257),
      chosen_through: instance - 1,
      value: Buffer.from(`value ${instance}`),
    }),
  );
  await append(log, ...writes);
}

const FOLDER = 'log';
const MARKS_NEVER = () => () => undefined;

function openOn(files: LogFiles): Promise<LogEngine> {
  return openPortable({ folder: FOLDER, identity, segment_bytes: SEGMENT_BYTES }, { files, later: MARKS_NEVER });
}

/** A disk on which the second checkpoint of a group was written until the power went. */
async function crashedDisk(power_for: number): Promise<{ disk: LosingFiles; finished: boolean }> {
  const disk = new LosingFiles();
  const log = await openOn(disk);
  await appendValues(log, 12);
  const store = new CheckpointStore(log);
  await store.write(GROUP, checkpoint(5, 2 * CHUNK_BYTES));
  await log.settled();
  disk.power_until = disk.calls + power_for;
  try {
    await store.write(GROUP, checkpoint(10, 3 * CHUNK_BYTES));
    await log.settled();
    await append(log, state(GROUP, SLOT_OF_OTHERS, 'later'));
    await log.settled();
  } catch (error) {
    if (!(error instanceof PhxError)) throw error;
  }
  return { disk, finished: disk.calls < disk.power_until };
}

/** The checkpoint that holds on a disk and the instances read again; all that it needs is there, and the next can be written. */
async function checkpointOn(disk: LosingFiles): Promise<{ instance: number; replayed: string[] }> {
  const log = await openOn(disk);
  const store = new CheckpointStore(log);
  const replayed: string[] = [];
  let restored = Buffer.alloc(0);
  const { checkpoint: found, gap } = await restoreGroup(log, store, GROUP, BEGINNING, {
    restore: (bytes) => {
      restored = Buffer.from(bytes);
    },
    reindex: (instance, value) => void replayed.push(`again ${instance}: ${Buffer.from(value)}`),
    restored: () => void replayed.push('restored'),
    apply: (instance, value) => void replayed.push(`${instance}: ${Buffer.from(value)}`),
  });
  const instance = found?.record.instance ?? 0;
  const whole = restored.equals(stateOf(instance, (instance === 5 ? 2 : 3) * CHUNK_BYTES));
  if (!whole || gap !== null) throw new Error('the state is not that of the checkpoint');
  await store.write(GROUP, checkpoint(11, CHUNK_BYTES));
  if ((await store.read(GROUP))?.record.instance !== 11) throw new Error('the next checkpoint is not there');
  await log.close();
  return { instance, replayed };
}

function replayedBehind(instance: number): string[] {
  return Array.from({ length: 13 - instance }, (_, i) => {
    const replayed = instance - 1 + i;
    return replayed <= instance ? `again ${replayed}: value ${replayed}` : `${replayed}: value ${replayed}`;
  }).toSpliced(2, 0, 'restored');
}

for (const [loss, kept] of [
  ['the process dies', 'written'],
  ['the power goes', 'synced'],
] as const) {
  test(`wherever ${loss} while a checkpoint is written, the old one or the new one holds`, async (t) => {
    const found: number[] = [];
    for (let power_for = 0; ; power_for += 1) {
      const { disk, finished } = await crashedDisk(power_for);
      const { instance, replayed } = await checkpointOn(disk.copy(kept));
      t.deepEqual(replayed, replayedBehind(instance));
      found.push(instance);
      if (finished) break;
    }
    t.true(found.length > 10, `${found.length} places to crash at`);
    t.is(found[0], 5);
    t.is(found.at(-1), 10);
    t.deepEqual(
      found,
      found.toSorted((a, b) => a - b),
      'once the new one holds, it stays',
    );
  });
}
