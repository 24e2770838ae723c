import test, { type ExecutionContext } from 'ava';
import { PhxError } from '../../src/ts/errors.js';
import { CheckpointStore } from '../../src/ts/paxos/checkpoint_store.js';
import { encodeConfigurations } from '../../src/ts/paxos/configurations.js';
import { ballotFrom, NO_BALLOT } from '../../src/ts/paxos/core/ballot.js';
import type { LogWrite } from '../../src/ts/paxos/core/types.js';
import { membersValue } from '../../src/ts/paxos/core/value.js';
import { DamagedEntries } from '../../src/ts/paxos/damaged_entries.js';
import { type Gap, recordOf, restoreBelowGap } from '../../src/ts/paxos/records.js';
import type { LogEngine } from '../../src/ts/wal/engine.js';
import { append, folderInMemory, open } from '../wal/fixture.js';
import { FOUNDERS } from './beginning.js';
import { fakeLog } from './fake_log.js';

const GROUP = 3;
const REPLICAS = 3;

function entry(instance: number, chosen_through: number): LogWrite & { type: 'entry' } {
  return { type: 'entry', instance, ballot: ballotFrom(257), chosen_through, value: Buffer.from(`value ${instance}`) };
}

/** A log whose entries from 1 to `through` say that all before them is chosen; these can no longer be read. */
async function damagedLog(t: ExecutionContext, through: number, instances: readonly number[]): Promise<LogEngine> {
  const log = await open(t, 'portable', folderInMemory(t));
  for (let instance = 1; instance <= through; instance += 1) {
    await append(log, recordOf(GROUP, entry(instance, instance - 1)));
  }
  return damaged(log, instances);
}

/** Until they are written again. */
function damaged(log: LogEngine, instances: readonly number[]): LogEngine {
  const left = new Set(instances);
  const corrupt = instances.map((instance) => ({ segment: 1, offset: 64, group: GROUP, instance }));
  const refuse = (from: number, through: number): void => {
    for (const instance of left) {
      if (from <= instance && instance <= through) fakeFailure();
    }
  };
  return Object.create(log, {
    recovery: { value: { ...log.recovery, corrupt } },
    append: {
      value: (...[records, done]: Parameters<LogEngine['append']>) => {
        for (const { instance } of records) left.delete(instance);
        log.append(records, done);
      },
    },
    read: {
      value: async (group: number, instance: number) => {
        refuse(instance, instance);
        return log.read(group, instance);
      },
    },
    readRange: {
      value: async (...[group, from, last, bytes_max]: Parameters<LogEngine['readRange']>) => {
        refuse(from, last);
        return log.readRange(group, from, last, bytes_max);
      },
    },
  });
}

function fakeFailure(): never {
  throw new PhxError('LOG_CORRUPT', 'damaged');
}

function gapIn(log: LogEngine, replicas = REPLICAS): Promise<Gap | null> {
  return new DamagedEntries(log, new CheckpointStore(log), replicas).gap(GROUP);
}

test('damaged entries that are known to be chosen are fetched, one run after the other', async (t) => {
  const log = await damagedLog(t, 40, [22, 20, 21, 30]);
  const entries = new DamagedEntries(log, new CheckpointStore(log), REPLICAS);
  t.deepEqual(await entries.gap(GROUP), { from: 20, through: 22 });
  for (const instance of [20, 21]) await append(log, recordOf(GROUP, entry(instance, 22)));
  t.deepEqual(await entries.gap(GROUP), { from: 22, through: 22 });
  await append(log, recordOf(GROUP, entry(22, 22)));
  t.deepEqual(await entries.gap(GROUP), { from: 30, through: 30 });
  await append(log, recordOf(GROUP, entry(30, 30)));
  t.is(await entries.gap(GROUP), null);
  t.is(await entries.gap(GROUP + 1), null);
});

test('members that came after the checkpoint are known from the sound entries', async (t) => {
  const log = await open(t, 'portable', folderInMemory(t));
  for (let instance = 1; instance <= 40; instance += 1) {
    const members = FOUNDERS.members.map((member) => (member.id === 2 ? { ...member, id: 18 } : member));
    const roster = { based_on: 0, next_id: 34, members };
    const value = instance === 25 ? membersValue(NO_BALLOT, roster) : Buffer.from(`value ${instance}`);
    await append(log, recordOf(GROUP, { ...entry(instance, instance - 1), value }));
  }
  const broken = damaged(log, [20]);
  const entries = new DamagedEntries(broken, new CheckpointStore(broken), REPLICAS);
  t.deepEqual(entries.members(GROUP), []);
  t.deepEqual(await entries.gap(GROUP), { from: 20, through: 20 });
  t.deepEqual(entries.members(GROUP), [1, 18, 3]);
});

test('a group stands still meanwhile with its votes, and where its checkpoint is', async (t) => {
  const log = await damagedLog(t, 40, [30]);
  await append(log, recordOf(GROUP, { type: 'promise', ballot: ballotFrom(514) }));
  await append(log, recordOf(GROUP, { type: 'longest_grant', lease_ms: 300 }));
  const checkpoints = new CheckpointStore(log);
  const gap = { from: 30, through: 30 };
  const before = await restoreBelowGap(log, checkpoints, GROUP, FOUNDERS, gap);
  t.like(before.core, { promised: 514, longest_grant_ms: 300, chosen_through: 0, entries: [], retained_from: 1 });
  await checkpoints.write(GROUP, {
    ...{ instance: 25, chain: 7, first_needed: 24, first_retained: 20, own_through: 25 },
    configurations: encodeConfigurations([FOUNDERS]),
    state: [Buffer.from('state')],
    retention: [],
  });
  const after = await restoreBelowGap(log, checkpoints, GROUP, FOUNDERS, gap);
  t.deepEqual(after.gap, gap);
  t.like(after.core, {
    promised: 514,
    chosen_through: 25,
    known_through: 25,
    chain: 7,
    entries: [],
    retained_from: 20,
  });
});

test('an entry that a checkpoint covers is chosen, and below what it retains none is needed', async (t) => {
  const log = await damagedLog(t, 40, [17, 40]);
  await new CheckpointStore(log).write(GROUP, {
    ...{ instance: 40, chain: 0, first_needed: 30, first_retained: 20, own_through: 40 },
    configurations: encodeConfigurations([FOUNDERS]),
    state: [Buffer.from('state')],
    retention: [],
  });
  t.deepEqual(await gapIn(log), { from: 40, through: 40 });
});

test('what may have been a vote is refused', async (t) => {
  const vote = { code: 'LOG_CORRUPT', message: /may have held a vote/ } as const;
  // Nothing behind says that it is chosen.
  await t.throwsAsync(gapIn(await damagedLog(t, 40, [40])), vote);
  await t.throwsAsync(gapIn(await damagedLog(t, 40, [20, 39, 40])), vote);
  t.deepEqual(await gapIn(await damagedLog(t, 40, [39])), { from: 39, through: 39 });
  // A slot might be any state.
  await t.throwsAsync(gapIn(await damagedLog(t, 40, [0])), vote);
  await t.throwsAsync(gapIn(await damagedLog(t, 40, [15])), vote);
  t.deepEqual(await gapIn(await damagedLog(t, 40, [16])), { from: 16, through: 16 });
  // There is nobody to ask.
  await t.throwsAsync(gapIn(await damagedLog(t, 40, [20]), 1), vote);
});

test('a place without a key, or whose record is sound, is refused', async (t) => {
  for (const [group, instance] of [
    [null, null],
    [GROUP, null],
  ] as const) {
    const { log } = fakeLog({ corrupt: [{ segment: 1, offset: 64, group, instance }] });
    await t.throwsAsync(gapIn(log), { code: 'LOG_CORRUPT', message: /segment 1 offset 64 may have held a vote/ });
  }
  const { log } = fakeLog({ corrupt: [{ segment: 1, offset: 64, group: GROUP + 1, instance: null }] });
  t.is(await gapIn(log), null);
  const sound = await damagedLog(t, 40, []);
  const corrupt = [{ segment: 1, offset: 64, group: GROUP, instance: 20 }];
  const reported: LogEngine = Object.create(sound, { recovery: { value: { ...sound.recovery, corrupt } } });
  await t.throwsAsync(gapIn(reported), { code: 'LOG_CORRUPT', message: /may have held a vote/ });
});
