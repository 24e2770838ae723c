import test, { type ExecutionContext } from 'ava';
import { PhxError } from '../../src/ts/errors.js';
import { BACKFILL_RETRY_MS, Backfill } from '../../src/ts/paxos/backfill.js';
import { CheckpointStore } from '../../src/ts/paxos/checkpoint_store.js';
import { encodeConfigurations } from '../../src/ts/paxos/configurations.js';
import { ballotFrom } from '../../src/ts/paxos/core/ballot.js';
import type { AcceptedEntry } from '../../src/ts/paxos/core/types.js';
import { type Gap, recordOf, restoreGroup } from '../../src/ts/paxos/records.js';
import { type LogEngine, RecordKind } from '../../src/ts/wal/engine.js';
import { append, folderInMemory, open } from '../wal/fixture.js';
import { BEGINNING, FOUNDERS } from './beginning.js';
import { until } from './sockets.js';

const GROUP = 0;
const BALLOT = ballotFrom(513);

function chosen(instance: number): AcceptedEntry {
  return { instance, ballot: BALLOT, value: Buffer.from(`chosen ${instance}`) };
}

function chosenFrom(from: number, count: number): AcceptedEntry[] {
  return Array.from({ length: count }, (_, i) => chosen(from + i));
}

/** A replica that applied 3 instances, accepted others that were never chosen, and got a checkpoint of instance 10. */
class Replica {
  readonly asked: [number, number, boolean][] = [];
  readonly failures: unknown[] = [];
  done = 0;
  refusal: PhxError | null = null;
  readonly log: LogEngine;

  private constructor(log: LogEngine) {
    this.log = Object.create(log, {
      append: {
        value: (...[records, done]: Parameters<LogEngine['append']>) => {
          if (this.refusal !== null) throw this.refusal;
          log.append(records, done);
        },
      },
    });
  }

  static async start(t: ExecutionContext): Promise<Replica> {
    const log = await open(t, 'portable', folderInMemory(t));
    const own = Array.from({ length: 7 }, (_, i) => i + 1).map((instance) => {
      const value = Buffer.from(instance <= 3 ? `chosen ${instance}` : `never chosen ${instance}`);
      return recordOf(GROUP, { type: 'entry', instance, ballot: ballotFrom(257), chosen_through: 3, value });
    });
    await append(log, ...own);
    await new CheckpointStore(log).write(GROUP, {
      ...{ instance: 10, chain: 0, first_needed: 2, first_retained: 2, own_through: 3 },
      ...{ configurations: encodeConfigurations([FOUNDERS]), state: [Buffer.from('state')], retention: [] },
    });
    return new Replica(log);
  }

  async restore(): Promise<{ gap: Gap | null; indexed: string[] }> {
    const indexed: string[] = [];
    const { gap } = await restoreGroup(this.log, new CheckpointStore(this.log), GROUP, BEGINNING, {
      restore: () => undefined,
      reindex: (_instance, value) => void indexed.push(Buffer.from(value).toString()),
      restored: () => void indexed.push('restored'),
      apply: () => undefined,
    });
    return { gap, indexed };
  }

  async backfill(): Promise<Backfill> {
    const { gap } = await this.restore();
    if (gap === null) throw new Error('something is missing');
    return new Backfill({
      log: this.log,
      group: GROUP,
      gap,
      ask: (from, through, again) => this.asked.push([from, through, again]),
      onDone: () => {
        this.done += 1;
      },
      onFailure: (error) => this.failures.push(error),
    });
  }
}

test('what is missing is fetched in portions, written and trusted', async (t) => {
  const replica = await Replica.start(t);
  const backfill = await replica.backfill();
  t.is(backfill.left, 7, 'what was accepted and never chosen is missing, too');
  backfill.tick(0);
  t.deepEqual(replica.asked, [[4, 10, false]]);
  backfill.onLearn(chosenFrom(4, 3), 1);
  t.deepEqual(replica.asked[1], [7, 10, false], 'while the portion is written');
  const state = { kind: RecordKind.state, group: GROUP, instance: 9, body: [Buffer.from('durable behind it')] };
  await append(replica.log, state);
  // A restart here goes on where it was.
  t.deepEqual((await replica.restore()).gap, { from: 7, through: 10 });
  backfill.onLearn(chosenFrom(7, 9), 2);
  await until(() => (replica.done === 1 ? true : undefined));
  const { gap, indexed } = await replica.restore();
  t.is(gap, null);
  t.deepEqual(indexed, [...[2, 3, 4, 5, 6, 7, 8, 9, 10].map((instance) => `chosen ${instance}`), 'restored']);
  t.is(replica.log.bounds(GROUP)?.last, 10, 'what came beyond the checkpoint is the business of the core');
});

test('what is lost, empty, or has a hole is asked for again', async (t) => {
  const replica = await Replica.start(t);
  const backfill = await replica.backfill();
  backfill.tick(0);
  backfill.onLearn([], 0);
  backfill.onLearn(chosenFrom(5, 2), 0);
  backfill.tick(BACKFILL_RETRY_MS - 1);
  t.is(replica.asked.length, 1);
  backfill.tick(BACKFILL_RETRY_MS);
  t.deepEqual(replica.asked, [
    [4, 10, false],
    [4, 10, true],
  ]);
  backfill.onLearn([chosen(4), chosen(6)], BACKFILL_RETRY_MS);
  t.deepEqual(replica.asked[2], [5, 10, false]);
});

test('a full disk is tried again, a failed one stops the replica', async (t) => {
  const replica = await Replica.start(t);
  const backfill = await replica.backfill();
  replica.refusal = new PhxError('LOG_FULL', 'no room', { retryable: true });
  backfill.tick(0);
  backfill.onLearn(chosenFrom(4, 7), 0);
  await until(() => {
    backfill.tick(BACKFILL_RETRY_MS);
    return replica.asked[1];
  });
  t.deepEqual(replica.failures, []);
  replica.refusal = new PhxError('LOG_POISONED', 'the disk is gone');
  backfill.onLearn(chosenFrom(4, 7), BACKFILL_RETRY_MS);
  t.like(await until(() => replica.failures[0]), { code: 'LOG_POISONED' });
  t.is(replica.done, 0);
});

test('after close nothing is reported', async (t) => {
  const replica = await Replica.start(t);
  const backfill = await replica.backfill();
  backfill.onLearn(chosenFrom(4, 7), 0);
  backfill.close();
  await until(() => (backfill.left === 0 ? true : undefined));
  backfill.tick(10_000);
  t.deepEqual([replica.done, replica.asked], [0, []]);
});
