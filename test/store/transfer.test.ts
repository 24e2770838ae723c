// A group of a store on its way to a replica that knows nothing of it: checkpoint, transfer, entries, restored machine.
import test from 'ava';
import { Backfill } from '../../src/ts/paxos/backfill.js';
import { CheckpointStore } from '../../src/ts/paxos/checkpoint_store.js';
import { Checkpointer } from '../../src/ts/paxos/checkpointer.js';
import { decodeConfigurations, encodeConfigurations } from '../../src/ts/paxos/configurations.js';
import { ballotFrom } from '../../src/ts/paxos/core/ballot.js';
import { batchValue, commandsOf } from '../../src/ts/paxos/core/value.js';
import { entryOf, type RestoredGroup, recordOf, restoreGroup } from '../../src/ts/paxos/records.js';
import type { Command } from '../../src/ts/paxos/replicated_log.js';
import {
  decodeSnapshotMessage,
  encodeSnapshotMessage,
  type SnapshotMessage,
} from '../../src/ts/paxos/snapshot_messages.js';
import { SnapshotReceiver, SnapshotSender } from '../../src/ts/paxos/snapshot_transfer.js';
import { encodeAdd, encodeCursors } from '../../src/ts/store/command.js';
import { StoreStateMachine } from '../../src/ts/store/state_machine.js';
import { trimQueues } from '../../src/ts/store/trim.js';
import type { LogEngine } from '../../src/ts/wal/engine.js';
import { BEGINNING, FOUNDERS } from '../paxos/beginning.js';
import { until } from '../paxos/sockets.js';
import { append, folderInMemory, open } from '../wal/fixture.js';
import { addBody, testItem } from './requests.js';

const GROUP = 0;
const BALLOT = ballotFrom(257);
const INSTANCES = 60;
/** Small portions, so that there are several. */
const LEARN_BYTES_MAX = 2_000;

function commandsIn(value: Uint8Array): Command[] {
  return commandsOf(value).map(({ offset, length }) => ({ bytes: value.subarray(offset, offset + length), offset }));
}

function restored(log: LogEngine, store: CheckpointStore, machine: StoreStateMachine): Promise<RestoredGroup> {
  return restoreGroup(log, store, GROUP, BEGINNING, {
    restore: (snapshot, retention) => machine.restore(GROUP, snapshot, retention),
    reindex: (instance, value) => machine.reindex(GROUP, instance, commandsIn(value)),
    restored: () => machine.restored(GROUP),
    apply: (instance, value) => void machine.apply(GROUP, instance, commandsIn(value)),
  });
}

/** Adds to two queues in each instance; all but the newest items are acknowledged in the end. */
async function fill(log: LogEngine, machine: StoreStateMachine, checkpointer: Checkpointer): Promise<void> {
  for (let instance = 1; instance <= INSTANCES; instance += 1) {
    const items = Array.from({ length: instance % 4 }, (_, i) => testItem(`${instance} ${i}`));
    const adds = [3, 8].map((queue_id) => encodeAdd(1, addBody(queue_id, items)));
    const updates = [3, 8].map((queue_id) => ({ queue_id, consumer_group: 1, prev: Math.max(1, 3 * instance - 50) }));
    const value = batchValue(BALLOT, instance < 2 ? adds : [...adds, encodeCursors(updates)]);
    await append(
      log,
      recordOf(GROUP, { type: 'entry', instance, ballot: BALLOT, chosen_through: instance - 1, value }),
    );
    machine.apply(GROUP, instance, commandsIn(value));
    checkpointer.applied(GROUP, instance, value.length);
  }
}

test('a replica that knows nothing of a group gets its checkpoint and its entries, and has the same state', async (t) => {
  const log = await open(t, 'portable', folderInMemory(t));
  const store = new CheckpointStore(log);
  const machine = new StoreStateMachine(1);
  const checkpointer = new Checkpointer({
    ...{ log, store, stateMachine: machine, groups: 1 },
    standsStill: () => false,
    options: { instances_min: 1, bytes_min: 1, held_instances_max: 3, held_bytes_max: 2 ** 40 },
    group: () => ({ applied_through: INSTANCES, chain: 0, configurations: encodeConfigurations([FOUNDERS]) }),
  });
  await fill(log, machine, checkpointer);
  trimQueues(machine.queues(), () => [1], 0);
  t.is(await checkpointer.run(), 1);
  const record = store.record(GROUP);
  t.true(record !== null && record.first_needed > 10 && record.first_needed < INSTANCES - 5);

  const own_log = await open(t, 'portable', folderInMemory(t));
  const own_store = new CheckpointStore(own_log);
  const own_machine = new StoreStateMachine(1);
  let installed = false;
  const wire: [number, Uint8Array][] = [];
  const send = (to: number, _group: number, message: SnapshotMessage): void => {
    wire.push([to, Buffer.concat(encodeSnapshotMessage(message))]);
  };
  const sender = new SnapshotSender(store, send, (_group, error) => t.fail(String(error)));
  const receiver = new SnapshotReceiver({
    ...{ store: own_store, send, appliedThrough: () => 0, prepare: async () => true, warn: (line) => t.fail(line) },
    onInstalled: () => {
      installed = true;
    },
    onFailure: (error) => t.fail(String(error)),
  });
  sender.offer(2, GROUP, 0);
  await until(() => {
    for (const [, bytes] of wire.splice(0)) {
      const message = decodeSnapshotMessage(bytes);
      if (message.type === 'snapshot_offer') receiver.onOffer(1, GROUP, message.head, 0);
      else if (message.type === 'snapshot_part') receiver.onPart(1, GROUP, message, 0);
      else sender.onFetch(2, GROUP, message, 0);
    }
    return installed && sender.streams === 0 ? true : undefined;
  });

  const { gap, checkpoint } = await restored(own_log, own_store, own_machine);
  t.deepEqual(gap, { from: record?.first_needed, through: INSTANCES });
  t.deepEqual(decodeConfigurations(checkpoint?.payload.configurations ?? new Uint8Array()), [FOUNDERS]);
  if (gap === null) return;
  let portions = 0;
  await new Promise<void>((resolve, reject) => {
    const ask = (from: number, through: number): void => {
      portions += 1;
      log.readRange(GROUP, from, through, LEARN_BYTES_MAX).then((entries) => {
        const learned = entries.map(({ instance, body }) => entryOf(instance, body));
        backfill.onLearn(learned, 0);
      }, reject);
    };
    const backfill = new Backfill({ log: own_log, group: GROUP, gap, ask, onDone: resolve, onFailure: reject });
    backfill.tick(0);
  });
  t.true(portions > 2);
  const { core, gap: left } = await restored(own_log, own_store, own_machine);
  t.is(left, null);
  t.is(core.chosen_through, INSTANCES);
  t.deepEqual(own_machine.snapshot(GROUP), machine.snapshot(GROUP));
  for (const queue_id of [3, 8]) {
    const [own, other] = [own_machine, machine].map((each) => each.queue(queue_id)?.index);
    const all = [0, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER] as const;
    t.true((own?.items ?? 0) > 0);
    t.deepEqual(own?.after(...all), other?.after(...all));
  }
});
