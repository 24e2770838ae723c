import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import { ballotFrom, NO_BALLOT } from '../../src/ts/paxos/core/ballot.js';
import { foundedBy } from '../../src/ts/paxos/core/members.js';
import type { LogWrite } from '../../src/ts/paxos/core/types.js';
import { entryOf, recordOf, restoreGroup } from '../../src/ts/paxos/records.js';
import type { LogEngine } from '../../src/ts/wal/engine.js';
import { openLog } from '../../src/ts/wal/open.js';
import { fakeLog } from './fake_log.js';

const GROUP = 3;
const FOUNDERS = foundedBy([{ id: 1, role: 'voter', birth: '0'.repeat(16), host: '127.0.0.1', port: 5_001, site: '' }]);

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

async function restored(
  engine: LogEngine,
): Promise<{ applied: string[]; state: Awaited<ReturnType<typeof restoreGroup>> }> {
  const applied: string[] = [];
  const state = await restoreGroup(engine, GROUP, FOUNDERS, crc32, (instance, value) => {
    applied.push(`${instance} ${Buffer.from(value).toString()}`);
  });
  return { applied, state };
}

test('an empty log restores to nothing', async (t) => {
  const { applied, state } = await restored(await log(t));
  t.deepEqual(applied, []);
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
  const { applied, state } = await restored(engine);
  t.deepEqual(applied, ['1 value 1 of 257', '2 value 2 of 257']);
  t.is(state.promised, ballotFrom(300));
  t.is(state.longest_grant_ms, 400);
  t.is(state.chosen_through, 2);
  t.is(state.chain, crc32('value 2 of 257', crc32('value 1 of 257')));
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
    state.entries.map(({ value }) => Buffer.from(value).toString()),
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

test('a damaged record that may have held a vote of the group is a reason to refuse, one of another is not', async (t) => {
  const damage = (group: number | null): LogEngine =>
    fakeLog({ corrupt: [{ segment: 1, offset: 64, group, instance: null }] }).log;
  for (const group of [GROUP, null]) {
    const error = await t.throwsAsync(restored(damage(group)), { code: 'LOG_CORRUPT' });
    t.regex(error.message, /segment 1 offset 64 may have held a vote/);
  }
  t.is((await restored(damage(GROUP + 1))).state.chosen_through, 0);
});

test('bytes too short for an entry are refused', (t) => {
  t.throws(() => entryOf(1, new Uint8Array(15)), { code: 'LOG_CORRUPT' });
  t.is(entryOf(1, new Uint8Array(16)).value.length, 0);
});
