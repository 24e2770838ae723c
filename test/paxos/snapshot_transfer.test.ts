import test, { type ExecutionContext } from 'ava';
import { PhxError } from '../../src/ts/errors.js';
import { CHUNK_BYTES, type CheckpointRecord, sameCheckpoint, shadowGroupOf } from '../../src/ts/paxos/checkpoint.js';
import { CheckpointStore } from '../../src/ts/paxos/checkpoint_store.js';
import { PART_BYTES, type SnapshotMessage } from '../../src/ts/paxos/snapshot_messages.js';
import {
  COLLECTIONS_MAX,
  SnapshotReceiver,
  type SnapshotReceiverOptions,
  SnapshotSender,
  type SnapshotSenderOptions,
} from '../../src/ts/paxos/snapshot_transfer.js';
import { type LogEngine, RecordKind } from '../../src/ts/wal/engine.js';
import { append, folderInMemory, open } from '../wal/fixture.js';
import { until } from './sockets.js';

const GROUP = 2;
const SENDER = 1;
const RECEIVER = 3;
const STATE_BYTES = 3 * PART_BYTES + 100;
const SENDING: SnapshotSenderOptions = {
  part_bytes_max: PART_BYTES,
  bytes_per_s: Number.POSITIVE_INFINITY,
  idle_timeout_ms: 1_000,
};
const RECEIVING: SnapshotReceiverOptions = { retry_ms: 100, gives_way_ms: 500, idle_timeout_ms: 1_000 };

interface Sent {
  readonly to: number;
  readonly message: SnapshotMessage;
}

/** A sender and a receiver, each with a log of its own; the test is the network and the clock. */
class Pair {
  now_ms = 0;
  applied = 0;
  /** Messages that nobody delivered yet. */
  readonly sent: Sent[] = [];
  readonly installed: CheckpointRecord[] = [];
  readonly failures: unknown[] = [];
  readonly warnings: string[] = [];
  readonly logs: readonly [LogEngine, LogEngine];
  readonly store: CheckpointStore;
  readonly own: CheckpointStore;
  sender: SnapshotSender;
  readonly receiver: SnapshotReceiver;
  /** Resolves when the group of the receiver stands still. */
  standstill: Promise<void> = Promise.resolve();
  /** What the receiver's log throws. */
  refusal: PhxError | null = null;

  private constructor(logs: readonly [LogEngine, LogEngine], sending: SnapshotSenderOptions) {
    this.logs = logs;
    this.store = new CheckpointStore(logs[0]);
    const refusing: LogEngine = Object.create(logs[1], {
      append: {
        value: (...[records, done]: Parameters<LogEngine['append']>) => {
          if (this.refusal !== null) throw this.refusal;
          logs[1].append(records, done);
        },
      },
    });
    this.own = new CheckpointStore(refusing);
    this.sender = this.newSender(sending);
    this.receiver = new SnapshotReceiver(
      {
        store: this.own,
        send: (to, _group, message) => this.sent.push({ to, message }),
        appliedThrough: () => this.applied,
        prepare: async (_group, instance) => {
          await this.standstill;
          return instance > this.applied;
        },
        onInstalled: (group) => {
          const record = this.own.record(group);
          if (record !== null) this.installed.push(record);
        },
        onFailure: (error) => this.failures.push(error),
        warn: (line) => this.warnings.push(line),
      },
      RECEIVING,
    );
  }

  static async start(t: ExecutionContext, sending: Partial<SnapshotSenderOptions> = {}): Promise<Pair> {
    const options = { segment_bytes: 4 * CHUNK_BYTES };
    const logs = [
      await open(t, 'portable', folderInMemory(t), options),
      await open(t, 'portable', folderInMemory(t), options),
    ] as const;
    const pair = new Pair(logs, { ...SENDING, ...sending });
    await pair.checkpoint(100);
    return pair;
  }

  newSender(options: SnapshotSenderOptions): SnapshotSender {
    return new SnapshotSender(
      this.store,
      (to, _group, message) => this.sent.push({ to, message }),
      (_group, error) => this.failures.push(error),
      options,
    );
  }

  /** The sender makes a checkpoint. */
  checkpoint(instance: number, bytes = STATE_BYTES): Promise<CheckpointRecord> {
    return this.store.write(GROUP, {
      ...{ instance, chain: 7, first_needed: instance - 5, first_retained: instance - 50, own_through: instance },
      configurations: [Buffer.from('members')],
      state: [Buffer.alloc(bytes, `state ${instance} `)],
      retention: [Buffer.from('retention')],
    });
  }

  /** The next message that was sent. */
  async next(): Promise<SnapshotMessage> {
    return until(() => this.sent.shift()?.message);
  }

  deliver(message: SnapshotMessage): void {
    if (message.type === 'snapshot_offer') this.receiver.onOffer(SENDER, GROUP, message.head, this.now_ms);
    else if (message.type === 'snapshot_part') this.receiver.onPart(SENDER, GROUP, message, this.now_ms);
    else this.sender.onFetch(RECEIVER, GROUP, message, this.now_ms);
  }

  /** Delivers everything until `enough`. */
  async run(enough: () => boolean): Promise<void> {
    while (!enough()) {
      const message = await until(() => (enough() ? null : this.sent.shift()?.message));
      if (message !== null) this.deliver(message);
    }
  }

  /** Until the checkpoint is installed and the sender knows. */
  finish(): Promise<void> {
    return this.run(() => this.installed.length > 0 && this.sender.streams === 0);
  }
}

async function partsHad(pair: Pair, parts: number): Promise<void> {
  await pair.run(() => (pair.receiver.progress(GROUP)?.have_bytes ?? 0) >= parts * PART_BYTES);
}

test('a checkpoint arrives part by part and becomes the own one', async (t) => {
  const pair = await Pair.start(t);
  pair.applied = 40;
  t.true(pair.sender.offer(RECEIVER, GROUP, 0));
  await pair.finish();
  const sent = await pair.store.read(GROUP);
  const got = await pair.own.read(GROUP);
  t.deepEqual(got?.payload, sent?.payload);
  // Its own: what it needs of the log is what it keeps, and what it had applied before is noted.
  t.like(got?.record, { instance: 100, chain: 7, first_needed: 95, first_retained: 95, own_through: 40 });
  t.deepEqual(pair.installed, [got?.record]);
  t.is(pair.receiver.progress(GROUP), null);
  t.deepEqual([pair.failures, pair.warnings], [[], []]);
});

test('without a checkpoint nothing is offered', async (t) => {
  const pair = await Pair.start(t);
  t.false(pair.sender.offer(RECEIVER, GROUP + 1, 0));
  t.is(pair.sent.length, 0);
});

test('one part is under way at a time, and doubled or foreign ones change nothing', async (t) => {
  const pair = await Pair.start(t);
  pair.sender.offer(RECEIVER, GROUP, 0);
  pair.deliver(await pair.next());
  const asked = await pair.next();
  pair.deliver(asked);
  pair.deliver(asked);
  const part = await pair.next();
  if (part.type !== 'snapshot_part') throw new Error(part.type);
  pair.receiver.onPart(2, GROUP, part, 0);
  t.is(pair.receiver.progress(GROUP)?.have_bytes, 0, 'nobody asked that replica');
  pair.deliver(part);
  pair.deliver(part);
  t.is(pair.receiver.progress(GROUP)?.have_bytes, PART_BYTES);
  await pair.finish();
  t.is((await pair.own.read(GROUP))?.record.instance, 100);
});

test('what was lost is asked for again, at the same offset', async (t) => {
  const pair = await Pair.start(t);
  pair.sender.offer(RECEIVER, GROUP, 0);
  await partsHad(pair, 2);
  pair.deliver(await pair.next());
  t.is((await pair.next()).type, 'snapshot_part', 'and lost');
  pair.now_ms += RECEIVING.retry_ms - 1;
  pair.receiver.tick(pair.now_ms);
  t.is(pair.sent.length, 0);
  pair.now_ms += 1;
  pair.receiver.tick(pair.now_ms);
  t.like(await (async () => pair.sent[0]?.message)(), { type: 'snapshot_fetch', offset: 2 * PART_BYTES });
  await pair.finish();
  t.is(pair.installed.length, 1);
});

test('a damaged part is asked for again', async (t) => {
  const pair = await Pair.start(t);
  pair.sender.offer(RECEIVER, GROUP, 0);
  await partsHad(pair, 1);
  pair.deliver(await pair.next());
  const part = await pair.next();
  if (part.type !== 'snapshot_part') throw new Error(part.type);
  pair.deliver({ ...part, bytes: Buffer.from(part.bytes).fill(0, 10, 20) });
  t.regex(pair.warnings.join(), /damaged part/);
  await pair.finish();
  t.is(pair.installed.length, 1);
});

test('after a reconnection it goes on where it stopped, from a sender that was started again', async (t) => {
  const pair = await Pair.start(t);
  pair.sender.offer(RECEIVER, GROUP, 0);
  await partsHad(pair, 2);
  pair.sent.splice(0);
  pair.sender.close();
  pair.sender = pair.newSender(SENDING);
  pair.now_ms += RECEIVING.retry_ms;
  pair.receiver.tick(pair.now_ms);
  const offsets: number[] = [];
  await pair.run(() => {
    for (const { message } of pair.sent) if (message.type === 'snapshot_part') offsets.push(message.offset);
    return pair.installed.length > 0 && pair.sender.streams === 0;
  });
  t.deepEqual([...new Set(offsets)], [2 * PART_BYTES, 3 * PART_BYTES]);
});

test('a checkpoint on its way stays readable while a newer one is made, and goes when it has arrived', async (t) => {
  const pair = await Pair.start(t);
  const { first_chunk } = pair.store.record(GROUP) ?? { first_chunk: 0 };
  pair.sender.offer(RECEIVER, GROUP, 0);
  await partsHad(pair, 1);
  await pair.checkpoint(200);
  t.is(pair.logs[0].bounds(shadowGroupOf(GROUP))?.first, first_chunk);
  await pair.finish();
  t.is(pair.installed[0]?.instance, 100);
  t.is(pair.logs[0].bounds(shadowGroupOf(GROUP))?.first, pair.store.record(GROUP)?.first_chunk);
});

test('once it was given up and a newer one was made, the receiver begins anew with that', async (t) => {
  const pair = await Pair.start(t);
  pair.sender.offer(RECEIVER, GROUP, 0);
  await partsHad(pair, 2);
  pair.sent.splice(0);
  pair.now_ms += RECEIVING.retry_ms;
  pair.receiver.tick(pair.now_ms);
  pair.sender.tick(SENDING.idle_timeout_ms);
  t.is(pair.sender.streams, 0);
  await pair.checkpoint(200, PART_BYTES);
  t.is(pair.logs[0].bounds(shadowGroupOf(GROUP))?.first, pair.store.record(GROUP)?.first_chunk);
  await pair.finish();
  t.deepEqual(
    pair.installed.map(({ instance }) => instance),
    [200],
  );
});

test('no more bytes leave in a second than are allowed', async (t) => {
  const pair = await Pair.start(t, { bytes_per_s: PART_BYTES });
  pair.sender.offer(RECEIVER, GROUP, 0);
  await partsHad(pair, 1);
  pair.deliver(await pair.next());
  for (; pair.now_ms < 999; pair.now_ms += 111) pair.sender.tick(pair.now_ms);
  t.is(pair.sent.length, 0, 'the second part waits for the second second');
  pair.now_ms = 1_000;
  pair.sender.tick(pair.now_ms);
  t.like(await pair.next(), { type: 'snapshot_part', offset: PART_BYTES });
});

test('a receiver gives up what nobody sends any more, and what it no longer needs', async (t) => {
  const pair = await Pair.start(t);
  for (const end of ['idle', 'applied']) {
    pair.sender.offer(RECEIVER, GROUP, 0);
    await partsHad(pair, 1);
    pair.sent.splice(0);
    if (end === 'idle') pair.now_ms += RECEIVING.idle_timeout_ms;
    else pair.applied = 100;
    pair.receiver.tick(pair.now_ms);
    t.is(pair.receiver.progress(GROUP), null, end);
  }
  pair.sender.offer(RECEIVER, GROUP, pair.now_ms);
  pair.deliver(await pair.next());
  t.is(pair.sent.length, 0, 'an offer of what it has is no use');
});

test('what was applied while the last part was on its way is not undone', async (t) => {
  const pair = await Pair.start(t);
  pair.sender.offer(RECEIVER, GROUP, 0);
  await partsHad(pair, 3);
  pair.deliver(await pair.next());
  const part = await pair.next();
  pair.deliver(part);
  pair.applied = 100;
  await until(() => (pair.receiver.progress(GROUP) === null ? true : undefined));
  t.is(pair.own.record(GROUP), null);
  t.is(pair.installed.length, 0);
});

test('nothing is written before the group stands still', async (t) => {
  const pair = await Pair.start(t);
  let stand: () => void = () => undefined;
  pair.standstill = new Promise((resolve) => {
    stand = resolve;
  });
  pair.sender.offer(RECEIVER, GROUP, 0);
  await partsHad(pair, 3);
  pair.deliver(await pair.next());
  pair.deliver(await pair.next());
  await append(pair.logs[1], { kind: RecordKind.state, group: GROUP, instance: 9, body: [Buffer.from('later')] });
  t.is(pair.logs[1].bounds(shadowGroupOf(GROUP)), null);
  stand();
  await pair.finish();
  t.not(pair.logs[1].bounds(shadowGroupOf(GROUP)), null);
});

test('two senders do not disturb each other', async (t) => {
  const pair = await Pair.start(t);
  pair.sender.offer(RECEIVER, GROUP, 0);
  await partsHad(pair, 1);
  const { record } = (await pair.store.read(GROUP)) ?? {};
  if (record === undefined) throw new Error('it is there');
  pair.receiver.onOffer(2, GROUP, { ...record, instance: 500 }, 0);
  t.is(pair.receiver.progress(GROUP)?.have_bytes, PART_BYTES);
  await pair.finish();
  t.is(pair.installed[0]?.instance, 100);
});

test('where nothing comes any more, what another sender offers takes its place', async (t) => {
  const pair = await Pair.start(t);
  pair.sender.offer(RECEIVER, GROUP, 0);
  await partsHad(pair, 1);
  const { record } = (await pair.store.read(GROUP)) ?? {};
  if (record === undefined) throw new Error('it is there');
  const head = { ...record, instance: 500 };
  pair.receiver.onOffer(2, GROUP, head, RECEIVING.gives_way_ms - 1);
  t.like(pair.receiver.progress(GROUP), { instance: 100, from: SENDER });
  pair.receiver.onOffer(2, GROUP, head, RECEIVING.gives_way_ms);
  t.like(pair.receiver.progress(GROUP), { instance: 500, from: 2, have_bytes: 0 });
});

test('no more checkpoints are collected at a time than fit into memory', async (t) => {
  const pair = await Pair.start(t);
  const { record } = (await pair.store.read(GROUP)) ?? {};
  if (record === undefined) throw new Error('it is there');
  const groups = Array.from({ length: COLLECTIONS_MAX + 1 }, (_, group) => group);
  for (const group of groups) pair.receiver.onOffer(SENDER, group, record, 0);
  t.deepEqual(
    groups.filter((group) => pair.receiver.progress(group) === null),
    [COLLECTIONS_MAX],
  );
});

test('an offer that is repeated while parts come asks for nothing twice', async (t) => {
  const pair = await Pair.start(t);
  pair.sender.offer(RECEIVER, GROUP, 0);
  pair.deliver(await pair.next());
  t.is((await pair.next()).type, 'snapshot_fetch');
  pair.sender.offer(RECEIVER, GROUP, 0);
  pair.deliver(await pair.next());
  t.is(pair.sent.length, 0);
});

test('a checkpoint that is not what its offer said is dropped', async (t) => {
  const pair = await Pair.start(t);
  pair.sender.offer(RECEIVER, GROUP, 0);
  const offer = await pair.next();
  if (offer.type !== 'snapshot_offer') throw new Error(offer.type);
  pair.deliver({ ...offer, head: { ...offer.head, state_checksum: 0 } });
  await pair.run(() => pair.warnings.length > 0);
  t.regex(pair.warnings.join(), /not what it said/);
  t.is(pair.receiver.progress(GROUP), null);
  t.is(await pair.own.read(GROUP), null);
  t.deepEqual([pair.installed, pair.failures], [[], []]);
});

test('where the disk is full it waits for room; where the disk fails the replica has to stop', async (t) => {
  const pair = await Pair.start(t);
  pair.refusal = new PhxError('LOG_FULL', 'no room', { retryable: true });
  pair.sender.offer(RECEIVER, GROUP, 0);
  await pair.run(() => {
    const progress = pair.receiver.progress(GROUP);
    return progress !== null && progress.have_bytes === progress.total_bytes;
  });
  await until(() => {
    pair.now_ms += RECEIVING.idle_timeout_ms;
    pair.receiver.tick(pair.now_ms);
    return pair.now_ms > 10 * RECEIVING.idle_timeout_ms ? true : undefined;
  });
  t.not(pair.receiver.progress(GROUP), null, 'it is all there and stays');
  pair.refusal = null;
  await until(() => {
    pair.now_ms += RECEIVING.retry_ms;
    pair.receiver.tick(pair.now_ms);
    return pair.installed[0];
  });
  const record = pair.store.record(GROUP);
  t.true(record !== null && pair.installed.every((each) => sameCheckpoint(each, record)));

  const other = await Pair.start(t);
  other.refusal = new PhxError('LOG_POISONED', 'the disk is gone');
  other.sender.offer(RECEIVER, GROUP, 0);
  await other.run(() => other.failures.length > 0);
  t.like(other.failures[0], { code: 'LOG_POISONED' });
  t.is(other.installed.length, 0);
});

test('a sender whose own checkpoint is damaged says so and sends nothing', async (t) => {
  const pair = await Pair.start(t);
  pair.sender.offer(RECEIVER, GROUP, 0);
  pair.deliver(await pair.next());
  pair.logs[0].truncate(shadowGroupOf(GROUP), Number.MAX_SAFE_INTEGER);
  pair.deliver(await pair.next());
  t.like(await until(() => pair.failures[0]), { code: 'LOG_CORRUPT' });
  t.is(pair.sender.streams, 0);
  t.is(pair.sent.length, 0);
});
