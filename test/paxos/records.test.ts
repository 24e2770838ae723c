import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { CheckpointStore, type NewCheckpoint } from '../../src/ts/paxos/checkpoint_store.js';
import { encodeConfigurations } from '../../src/ts/paxos/configurations.js';
import { ballotFrom, NO_BALLOT } from '../../src/ts/paxos/core/ballot.js';
import type { Restored } from '../../src/ts/paxos/core/state.js';
import type { LogWrite } from '../../src/ts/paxos/core/types.js';
import { entryOf, type Gap, recordOf, restoreGroup } from '../../src/ts/paxos/records.js';
import type { LogEngine } from '../../src/ts/wal/engine.js';
import { openLog } from '../../src/ts/wal/open.js';
import { BEGINNING, FOUNDERS } from './beginning.js';

const GROUP = 3;

async function log(t: ExecutionContext): Promise<LogEngine> {
  const folder = mkdtempSync(join(tmpdir(), 'phxqueue-records-'));
  const opened = await openLog({ engine: 'portable', folder, identity: new Uint8Array(16) });
  t.teardown(async () => {
    await opened.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return opened;
}

function append(engine: LogEngine, ...writes: readonly LogWrite[]): Promise<void> {
  return new Promise((resolve, reject) => {
    engine.append(
      writes.map((write) => recordOf(GROUP, write)),
      (error) => (error === null ? resolve() : reject(error)),
    );
  });
}

function entry(instance: number, chosen_through: number, ballot = 257): LogWrite {
  return {
    type: 'entry',
    instance,
    ballot: ballotFrom(ballot),
    chosen_through,
    value: Buffer.from(`value ${instance} of ${ballot}`),
  };
}

/** What was replayed, in order, and what the core starts with. */
async function restored(engine: LogEngine): Promise<{ replayed: string[]; state: Restored; gap: Gap | null }> {
  const replayed: string[] = [];
  const { core, gap } = await restoreGroup(engine, new CheckpointStore(engine), GROUP, BEGINNING, {
    restore: (snapshot, retention) => void replayed.push(`${text(snapshot)}, ${text(retention)}`),
    reindex: (instance, value) => void replayed.push(`again ${instance} ${text(value)}`),
    restored: () => void replayed.push('restored'),
    apply: (instance, value) => void replayed.push(`${instance} ${text(value)}`),
  });
  return { replayed, state: core, gap };
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString();
}

/** A checkpoint of three applied instances, of which the last two are needed. */
function checkpoint(changes: Partial<NewCheckpoint> = {}): NewCheckpoint {
  return {
    instance: 3,
    chain: 0,
    first_needed: 2,
    first_retained: 2,
    own_through: 3,
    configurations: encodeConfigurations([FOUNDERS]),
    state: [Buffer.from('state')],
    retention: [Buffer.from('retention')],
    ...changes,
  };
}

test('an empty log restores to nothing', async (t) => {
  const { replayed, state, gap } = await restored(await log(t));
  t.deepEqual(replayed, []);
  t.is(gap, null);
  t.deepEqual(state, {
    promised: NO_BALLOT,
    longest_grant_ms: 0,
    chosen_through: 0,
    chain: 0,
    configurations: [FOUNDERS],
    known_through: 0,
    entries: [],
    retained_from: 1,
  });
});

test('what is known to be chosen is applied in order, what is above comes back as accepted', async (t) => {
  const engine = await log(t);
  await append(engine, { type: 'promise', ballot: ballotFrom(300) }, { type: 'longest_grant', lease_ms: 399.5 });
  await append(engine, entry(2, 0), entry(1, 0), entry(4, 2), entry(3, 2));
  const { replayed, state } = await restored(engine);
  t.deepEqual(replayed, ['1 value 1 of 257', '2 value 2 of 257']);
  t.is(state.promised, ballotFrom(300));
  t.is(state.longest_grant_ms, 400);
  t.is(state.chosen_through, 2);
  t.deepEqual(
    state.entries.map(({ instance, ballot }) => [instance, ballot]),
    [
      [3, ballotFrom(257)],
      [4, ballotFrom(257)],
    ],
  );
});

test('of two values for an instance the later written one counts', async (t) => {
  const engine = await log(t);
  await append(engine, entry(1, 0, 257));
  await append(engine, entry(1, 0, 514));
  await append(engine, { type: 'promise', ballot: ballotFrom(300) }, { type: 'promise', ballot: ballotFrom(514) });
  const { state } = await restored(engine);
  t.deepEqual(
    state.entries.map(({ value }) => text(value)),
    ['value 1 of 514'],
  );
  t.is(state.promised, ballotFrom(514));
});

test('a log in which a chosen value is missing is refused', async (t) => {
  const engine = await log(t);
  await append(engine, entry(1, 0), entry(3, 2));
  const error = await t.throwsAsync(restored(engine), { code: 'LOG_CORRUPT' });
  t.regex(error.message, /group 3: chosen instance 2 is missing/);
});

test('behind a checkpoint only what it needs is read again', async (t) => {
  const engine = await log(t);
  await append(engine, entry(1, 0), entry(2, 0), entry(3, 1), entry(4, 3), entry(5, 4));
  await new CheckpointStore(engine).write(GROUP, checkpoint());
  const { replayed, state } = await restored(engine);
  t.deepEqual(replayed, [
    'state, retention',
    'again 2 value 2 of 257',
    'again 3 value 3 of 257',
    'restored',
    '4 value 4 of 257',
  ]);
  t.is(state.chosen_through, 4);
  t.deepEqual(
    state.entries.map(({ instance }) => instance),
    [5],
  );
  t.deepEqual(engine.bounds(GROUP), { first: 2, last: 5 });
});

test('a checkpoint says what is chosen where no entry does', async (t) => {
  const engine = await log(t);
  await append(engine, entry(1, 0), entry(2, 0), entry(3, 0));
  await new CheckpointStore(engine).write(GROUP, checkpoint({ first_needed: 4, first_retained: 4 }));
  const { replayed, state } = await restored(engine);
  t.deepEqual(replayed, ['state, retention', 'restored']);
  t.is(state.chosen_through, 3);
  t.is(engine.bounds(GROUP), null);
});

test('entries that a checkpoint needs and that are missing are a reason to refuse', async (t) => {
  const engine = await log(t);
  await append(engine, entry(1, 0), entry(3, 0));
  await new CheckpointStore(engine).write(GROUP, checkpoint());
  const error = await t.throwsAsync(restored(engine), { code: 'LOG_CORRUPT' });
  t.regex(error.message, /group 3: instance 2 is missing, which the checkpoint needs/);
});

test('behind the checkpoint of a peer only entries that say that they are chosen count', async (t) => {
  const engine = await log(t);
  await append(engine, entry(1, 0), entry(2, 0), entry(3, 0));
  await new CheckpointStore(engine).write(GROUP, checkpoint({ first_retained: 1, own_through: 1 }));
  // Entry 2 is of an old ballot: another value may have been chosen.
  const before = await restored(engine);
  t.deepEqual(before.replayed, ['state, retention']);
  t.deepEqual(before.gap, { from: 2, through: 3 });
  await append(engine, entry(2, 3, 514));
  t.deepEqual((await restored(engine)).gap, { from: 3, through: 3 });
  await append(engine, entry(3, 3, 514), entry(4, 3));
  const after = await restored(engine);
  t.is(after.gap, null);
  t.deepEqual(after.replayed, ['state, retention', 'again 2 value 2 of 514', 'again 3 value 3 of 514', 'restored']);
  t.is(after.state.chosen_through, 3);
});

test('bytes too short for an entry are refused', (t) => {
  t.throws(() => entryOf(1, new Uint8Array(15)), { code: 'LOG_CORRUPT' });
  t.is(entryOf(1, new Uint8Array(16)).value.length, 0);
});
