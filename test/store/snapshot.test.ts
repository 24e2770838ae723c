import test from 'ava';
import fc from 'fast-check';
import type { Command } from '../../src/ts/paxos/replicated_log.js';
import { encodeAdd, encodeCursors } from '../../src/ts/store/command.js';
import { cursor_none } from '../../src/ts/store/cursors.js';
import { decodeRetention, decodeSnapshot } from '../../src/ts/store/snapshot.js';
import { StoreStateMachine } from '../../src/ts/store/state_machine.js';
import { trimQueues } from '../../src/ts/store/trim.js';
import { addBody, testItem } from './requests.js';

const GROUPS = 2;
const GROUP = 1;
/** Those of the group. */
const QUEUES = [1, 3, 5, 7];
const CONSUMER_GROUPS = [1, 2, 64];
/** Those that are configured for all queues but the last, which has none. */
const CONFIGURED = [1, 2];
/** Bytes that stand before the commands in a value. */
const VALUE_HEAD_BYTES = 20;

/** What happens, in order; cursors are shares of the items that there are then. */
type Step =
  | { readonly type: 'add'; readonly queue: number; readonly items: number }
  | {
      readonly type: 'acknowledge';
      readonly queues: readonly number[];
      readonly consumer_groups: readonly number[];
      readonly share: number;
    };

const queue = fc.constantFrom(...QUEUES);
const command_step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ type: fc.constant('add' as const), queue, items: fc.nat(4) }),
  fc.record({
    type: fc.constant('acknowledge' as const),
    queues: fc.constantFrom([1], [3], [1, 3, 5], QUEUES),
    consumer_groups: fc.constantFrom(CONFIGURED, CONFIGURED, [1], [64]),
    share: fc.nat(100).map((percent) => percent / 100),
  }),
);
/** Each an instance with some commands, or a trim. */
const history = fc.array(
  fc.oneof({ weight: 3, arbitrary: fc.array(command_step, { maxLength: 4 }) }, fc.constant('trim' as const)),
  { maxLength: 30 },
);
type History = typeof history extends fc.Arbitrary<infer T> ? T : never;

/** The commands of an instance, laid out in its value one after the other. */
function commandsOf(steps: readonly Step[], last_cursor: number): Command[] {
  const commands: Command[] = [];
  let offset = VALUE_HEAD_BYTES;
  let items = last_cursor;
  for (const step of steps) {
    const bytes = Buffer.concat(
      step.type === 'add' ? addOf(step.queue, step.items) : [...acknowledgement(step, items)],
    );
    if (step.type === 'add') items += step.items;
    commands.push({ bytes, offset });
    offset += bytes.length;
  }
  return commands;
}

function addOf(queue_id: number, items: number): Uint8Array[] {
  return encodeAdd(
    1,
    addBody(
      queue_id,
      Array.from({ length: items }, (_, i) => testItem('x'.repeat(i))),
    ),
  );
}

function acknowledgement(step: Step & { type: 'acknowledge' }, items: number): Uint8Array[] {
  const prev = Math.floor(step.share * items);
  const { queues, consumer_groups } = step;
  return encodeCursors(
    queues.flatMap((queue_id) => consumer_groups.map((consumer_group) => ({ queue_id, consumer_group, prev }))),
  );
}

function trim(machine: StoreStateMachine): void {
  trimQueues(machine.queues(), (queue_id) => (queue_id === 7 ? [] : CONFIGURED), 0);
}

/** Everything that can be asked about the group. */
function answersOf(machine: StoreStateMachine): unknown {
  return {
    last_cursor: machine.lastCursor(GROUP),
    first_needed: machine.firstNeeded(GROUP),
    queues: QUEUES.map((queue_id) => {
      const { group, index, cursors, added_items, added_bytes } = machine.ensureQueue(queue_id);
      const { items, lastCursor, first, firstCursor } = index;
      const entries = index.after(0, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
      const lag = index.countAfter(machine.lastCursor(GROUP) / 2);
      const stands = CONSUMER_GROUPS.map((consumer_group) => cursors.of(consumer_group));
      return { group, items, lastCursor, first, firstCursor, entries, lag, stands, added_items, added_bytes };
    }),
  };
}

function snapshotOf(machine: StoreStateMachine): string {
  return Buffer.concat(machine.snapshot(GROUP)).toString('hex');
}

function retentionOf(machine: StoreStateMachine): Buffer {
  return Buffer.concat(machine.retention(GROUP));
}

/** A machine, and the instances that it applied. */
class Run {
  readonly machine = new StoreStateMachine(GROUPS);
  readonly instances: Command[][] = [];

  play(steps: History, trims: boolean): void {
    for (const step of steps) {
      if (step !== 'trim') this.apply(commandsOf(step, this.machine.lastCursor(GROUP)));
      else if (trims) trim(this.machine);
    }
  }

  apply(commands: Command[]): void {
    this.instances.push(commands);
    this.machine.apply(GROUP, this.instances.length, commands);
  }
}

/** A machine that starts from what `run` would put into a checkpoint now. */
function restored({ machine, instances }: Run): Run {
  const run = new Run();
  run.instances.push(...instances);
  run.machine.restore(GROUP, Buffer.concat(machine.snapshot(GROUP)), retentionOf(machine));
  for (let instance = machine.firstNeeded(GROUP); instance <= instances.length; instance += 1) {
    run.machine.reindex(GROUP, instance, instances[instance - 1] ?? []);
  }
  run.machine.restored(GROUP);
  return run;
}

test('a machine restored from a snapshot answers as the one that applied everything', (t) => {
  let partly_trimmed = 0;
  fc.assert(
    fc.property(history, history, (before, after) => {
      const whole = new Run();
      whole.play(before, true);
      const { first } = decodeRetention(retentionOf(whole.machine));
      if (first !== null && first.cursor > 1) partly_trimmed += 1;
      const second = restored(whole);
      t.deepEqual(answersOf(second.machine), answersOf(whole.machine));
      for (const run of [whole, second]) run.play(after, true);
      t.deepEqual(answersOf(second.machine), answersOf(whole.machine));
      t.is(snapshotOf(second.machine), snapshotOf(whole.machine));
      t.deepEqual(retentionOf(second.machine), retentionOf(whole.machine));
    }),
    { numRuns: 500 },
  );
  t.true(partly_trimmed > 10, `${partly_trimmed} histories with items trimmed and items kept`);
});

test('a snapshot does not depend on what a replica trimmed, nor on queues that were only asked for', (t) => {
  fc.assert(
    fc.property(history, (steps) => {
      const [one, other] = [new Run(), new Run()];
      for (const queue_id of [7, 5]) other.machine.ensureQueue(queue_id);
      one.play(steps, true);
      other.play(steps, false);
      // A master knows of acknowledgements that the log does not carry yet.
      other.machine.ensureQueue(3).cursors.commit(9, { prev: 1, next: 2 });
      t.is(snapshotOf(other.machine), snapshotOf(one.machine));
    }),
    { numRuns: 100 },
  );
});

test('instances before the first one needed may be indexed again, too, without a difference', (t) => {
  fc.assert(
    fc.property(history, (steps) => {
      const whole = new Run();
      whole.play(steps, true);
      const machine = new StoreStateMachine(GROUPS);
      machine.restore(GROUP, Buffer.concat(whole.machine.snapshot(GROUP)), retentionOf(whole.machine));
      for (const [i, commands] of whole.instances.entries()) machine.reindex(GROUP, i + 1, commands);
      machine.restored(GROUP);
      t.deepEqual(answersOf(machine), answersOf(whole.machine));
    }),
    { numRuns: 100 },
  );
});

test('restoring replaces what there was of the group at once in the end, and nothing of another', (t) => {
  const run = new Run();
  run.apply(commandsOf([{ type: 'add', queue: 1, items: 3 }], 0));
  const target = new Run();
  target.apply(commandsOf([{ type: 'add', queue: 3, items: 2 }], 0));
  target.machine.apply(0, 1, [{ bytes: Buffer.concat(addOf(2, 1)), offset: 0 }]);
  const { machine } = target;
  const before = answersOf(machine);
  // The first attempt ends half-way: instances are missing.
  for (let attempt = 0; attempt < 2; attempt += 1) {
    machine.restore(GROUP, Buffer.concat(run.machine.snapshot(GROUP)), retentionOf(run.machine));
    machine.reindex(GROUP, 1, run.instances[0] ?? []);
    t.deepEqual(answersOf(machine), before);
  }
  machine.restored(GROUP);
  t.is(machine.queue(3), undefined);
  t.deepEqual(answersOf(machine), answersOf(run.machine));
  t.is(machine.queue(2)?.index.items, 1);
});

test('a group of which the log gave back too little is not served', (t) => {
  const run = new Run();
  for (let i = 0; i < 3; i += 1) run.apply(commandsOf([{ type: 'add', queue: 1, items: 2 }], 2 * i));
  const machine = new StoreStateMachine(GROUPS);
  machine.restore(GROUP, Buffer.concat(run.machine.snapshot(GROUP)), retentionOf(run.machine));
  machine.reindex(GROUP, 1, run.instances[0] ?? []);
  t.throws(() => machine.restored(GROUP), { code: 'LOG_CORRUPT' });
});

test('without items nothing is needed', (t) => {
  const machine = new StoreStateMachine(GROUPS);
  t.is(machine.firstNeeded(GROUP), Number.POSITIVE_INFINITY);
  t.is(decodeRetention(Buffer.concat(machine.retention(GROUP))).first, null);
  t.deepEqual(decodeSnapshot(Buffer.concat(machine.snapshot(GROUP))), { last_cursor: cursor_none, queues: [] });
});

test('a snapshot has this layout', (t) => {
  const run = new Run();
  run.apply([{ bytes: Buffer.concat(addOf(7, 2)), offset: 100 }]);
  run.apply([{ bytes: Buffer.concat(addOf(1, 1)), offset: 24 }]);
  for (const [consumer_group, prev] of [
    [64, 1],
    [2, 3],
  ] as const) {
    run.apply([{ bytes: Buffer.concat(encodeCursors([{ queue_id: 1, consumer_group, prev }])), offset: 24 }]);
  }
  const snapshot = Buffer.concat(run.machine.snapshot(GROUP));
  t.deepEqual([snapshot.readUInt16LE(0), snapshot.readUInt32LE(4), snapshot.readBigUInt64LE(8)], [1, 2, 3n]);
  t.deepEqual([snapshot.readInt32LE(16), snapshot.readUInt32LE(20)], [1, 2], 'queue 1 with two consumer groups');
  t.deepEqual([snapshot.readBigUInt64LE(24), snapshot.readBigUInt64LE(40)], [1n, 3n]);
  t.deepEqual([snapshot.readUInt32LE(48), snapshot.readBigUInt64LE(52)], [2, 3n]);
  t.deepEqual([snapshot.readUInt32LE(60), snapshot.readBigUInt64LE(64)], [64, 1n]);
  t.deepEqual([snapshot.readInt32LE(72), snapshot.readUInt32LE(76), snapshot.length], [7, 0, 104]);
  const retention = Buffer.concat(run.machine.retention(GROUP));
  t.deepEqual([retention.readUInt16LE(0), retention.readUInt32LE(4)], [1, 2]);
  t.deepEqual([retention.readBigUInt64LE(8), retention.readBigUInt64LE(16)], [1n, 1n], 'item 1 of instance 1');
  t.deepEqual([retention.readInt32LE(28), retention.readBigUInt64LE(32)], [1, 3n]);
  t.deepEqual([retention.readInt32LE(40), retention.readBigUInt64LE(44), retention.length], [7, 1n, 52]);
});

test('cut, longer or unknown bytes are refused', (t) => {
  const run = new Run();
  run.apply(commandsOf([{ type: 'add', queue: 1, items: 3 }], 0));
  for (const [bytes, decode] of [
    [Buffer.concat(run.machine.snapshot(GROUP)), decodeSnapshot],
    [retentionOf(run.machine), decodeRetention],
  ] as const) {
    for (let length = 0; length < bytes.length; length += 1) {
      t.throws(() => decode(bytes.subarray(0, length)), { code: 'LOG_CORRUPT' });
    }
    t.throws(() => decode(Buffer.concat([bytes, Buffer.alloc(1)])), { code: 'LOG_CORRUPT' });
    bytes.writeUInt16LE(2, 0);
    t.throws(() => decode(bytes), { code: 'LOG_FORMAT', message: /version 2/ });
  }
});
