import test, { type ExecutionContext } from 'ava';
import { PhxError } from '../../src/ts/errors.js';
import { CheckpointStore } from '../../src/ts/paxos/checkpoint_store.js';
import { Checkpointer, type CheckpointOptions } from '../../src/ts/paxos/checkpointer.js';
import type { StateMachine } from '../../src/ts/paxos/replicated_log.js';
import type { LogEngine } from '../../src/ts/wal/engine.js';
import { append, entry, folderInMemory, open } from '../wal/fixture.js';

const OPTIONS: CheckpointOptions = {
  instances_min: 10,
  bytes_min: 1_000,
  held_instances_max: 0,
  held_bytes_max: 2 ** 40,
};
const MIB = 1024 * 1024;

interface FakeGroup {
  applied_through: number;
  first_needed: number;
}

/** Two groups whose numbers the test sets, over a real log. */
class Rig {
  readonly groups: FakeGroup[] = [0, 1].map(() => ({ applied_through: 0, first_needed: 1 }));
  readonly log: LogEngine;
  readonly store: CheckpointStore;
  readonly checkpointer: Checkpointer;
  low_on_space = false;
  /** What appends throw. */
  refusal: PhxError | null = null;
  /** Groups that wait for a state from elsewhere. */
  readonly still = new Set<number>();

  private constructor(log: LogEngine, options: Partial<CheckpointOptions>) {
    this.log = Object.create(log, {
      low_on_space: { get: () => this.low_on_space },
      append: {
        value: (...[records, done]: Parameters<LogEngine['append']>) => {
          if (this.refusal !== null) throw this.refusal;
          log.append(records, done);
        },
      },
    });
    this.store = new CheckpointStore(this.log);
    const machine: StateMachine = {
      apply: () => [],
      snapshot: (group) => [Buffer.from(`state of ${group} at ${this.at(group).applied_through}`)],
      retention: () => [],
      firstNeeded: (group) => this.at(group).first_needed,
      restore: () => undefined,
      reindex: () => undefined,
      restored: () => undefined,
    };
    this.checkpointer = new Checkpointer({
      log: this.log,
      store: this.store,
      stateMachine: machine,
      groups: 2,
      options: { ...OPTIONS, ...options },
      standsStill: (group) => this.still.has(group),
      group: (group) => ({ applied_through: this.at(group).applied_through, chain: 9, configurations: [] }),
    });
  }

  static async start(t: ExecutionContext, options: Partial<CheckpointOptions> = {}): Promise<Rig> {
    return new Rig(await open(t, 'portable', folderInMemory(t)), options);
  }

  at(group: number): FakeGroup {
    const found = this.groups[group];
    if (found === undefined) throw new Error(`no group ${group}`);
    return found;
  }

  /** Applies instances up to `through`, each of so many bytes. */
  async apply(group: number, through: number, bytes = 1): Promise<void> {
    const known = this.at(group);
    for (let instance = known.applied_through + 1; instance <= through; instance += 1) {
      await append(this.log, entry(group, instance, 'value'));
      this.checkpointer.applied(group, instance, bytes);
    }
    known.applied_through = through;
  }
}

test('a checkpoint is made once enough was applied and less is needed', async (t) => {
  const rig = await Rig.start(t);
  await rig.apply(0, 9);
  rig.at(0).first_needed = 5;
  t.is(await rig.checkpointer.run(), 0, 'nine instances are not worth it');
  await rig.apply(0, 12);
  t.is(await rig.checkpointer.run(), 1);
  t.like(rig.store.record(0), { instance: 12, first_needed: 5, first_retained: 5, own_through: 12, chain: 9 });
  t.deepEqual(rig.log.bounds(0), { first: 5, last: 12 });
  await rig.apply(0, 40);
  t.is(await rig.checkpointer.run(), 0, 'as much is needed as before');
  rig.at(0).first_needed = Number.POSITIVE_INFINITY;
  t.is(await rig.checkpointer.run(), 1);
  t.like(rig.store.record(0), { instance: 40, first_needed: 41 });
  t.is(rig.log.bounds(0), null);
  t.is(await rig.checkpointer.run(), 0, 'nothing was applied since');
});

test('of a group that waits for a state from elsewhere no checkpoint is made', async (t) => {
  const rig = await Rig.start(t);
  await rig.apply(0, 12);
  rig.at(0).first_needed = 5;
  rig.still.add(0);
  t.is(await rig.checkpointer.run(), 0);
  rig.still.delete(0);
  t.is(await rig.checkpointer.run(), 1);
});

test('a few instances of many bytes are enough, too', async (t) => {
  const rig = await Rig.start(t);
  rig.at(0).first_needed = 2;
  await rig.apply(0, 2, 499);
  t.is(await rig.checkpointer.run(), 0);
  await rig.apply(0, 3, 2);
  t.is(await rig.checkpointer.run(), 1);
  rig.at(0).first_needed = 3;
  await rig.apply(0, 4, 999);
  t.is(await rig.checkpointer.run(), 0, 'bytes count from the last checkpoint on');
});

test('entries that nobody needs are held for others, so many', async (t) => {
  const rig = await Rig.start(t, { held_instances_max: 8 });
  rig.at(0).first_needed = Number.POSITIVE_INFINITY;
  await rig.apply(0, 20);
  await rig.checkpointer.run();
  t.like(rig.store.record(0), { first_needed: 21, first_retained: 13 });
  t.deepEqual(rig.log.bounds(0), { first: 13, last: 20 });
});

test('entries that nobody needs are held for others, so many bytes', async (t) => {
  const rig = await Rig.start(t, { held_instances_max: 1_000, held_bytes_max: 16 * MIB });
  rig.at(0).first_needed = Number.POSITIVE_INFINITY;
  await rig.apply(0, 12, MIB);
  await rig.checkpointer.run();
  t.like(rig.store.record(0), { first_needed: 13, first_retained: 1 });
  await rig.apply(0, 60, MIB);
  await rig.checkpointer.run();
  const held = 61 - (rig.store.record(0)?.first_retained ?? 0);
  t.true(held >= 16 && held <= 18, `${held} instances of a MiB`);
});

test('a full disk holds nothing for others and waits for nothing', async (t) => {
  const rig = await Rig.start(t, { held_instances_max: 1_000 });
  await rig.apply(0, 3);
  rig.at(0).first_needed = 3;
  t.is(await rig.checkpointer.run(), 0);
  rig.low_on_space = true;
  t.is(await rig.checkpointer.run(), 1);
  t.deepEqual(rig.log.bounds(0), { first: 3, last: 3 });
  await rig.apply(0, 4);
  rig.at(0).first_needed = 5;
  rig.refusal = new PhxError('LOG_FULL', 'no room', { retryable: true });
  t.is(await rig.checkpointer.run(), 0, 'the next time may find room');
  rig.refusal = null;
  t.is(await rig.checkpointer.run(), 1);
});

test('a log that fails is no matter of room', async (t) => {
  const rig = await Rig.start(t);
  await rig.apply(0, 30);
  rig.at(0).first_needed = 5;
  rig.refusal = new PhxError('LOG_POISONED', 'the disk is gone');
  await t.throwsAsync(rig.checkpointer.run(), { code: 'LOG_POISONED' });
});

test('groups come one after the other, and a call while one is written joins it', async (t) => {
  const rig = await Rig.start(t);
  for (const group of [0, 1]) {
    await rig.apply(group, 20);
    rig.at(group).first_needed = 10;
  }
  const both = [rig.checkpointer.run(), rig.checkpointer.run()];
  t.deepEqual(await Promise.all(both), [2, 2]);
  t.is(rig.store.record(1)?.instance, 20);
});

test('after close the checkpoint being written is the last', async (t) => {
  const rig = await Rig.start(t);
  for (const group of [0, 1]) {
    await rig.apply(group, 20);
    rig.at(group).first_needed = 10;
  }
  const run = rig.checkpointer.run();
  rig.checkpointer.close();
  t.is(await run, 1);
  t.is(rig.store.record(1), null);
  t.is(await rig.checkpointer.run(), 0);
});
