/** A replica that was away while the others truncated their logs: it gets a checkpoint, whatever happens on the way. */
import test, { type ExecutionContext } from 'ava';
import { until } from '../paxos/sockets.js';
import { stateHash } from '../sim/state_check.js';
import { type Filter, Replicas, trim } from './replicas.js';

const AWAY = 3;

/** Items of which all but the newest 20 were acknowledged, and replica 3 stopped since the first ones; the log is truncated. */
async function withOneAway(t: ExecutionContext): Promise<Replicas> {
  const three = await Replicas.start(t);
  await three.addAll(5);
  await three.settled();
  await three.stop(AWAY);
  await three.addAll(100);
  await three.acknowledge(20);
  await three.settled();
  await three.checkpoint();
  for (const { node } of three.running.values()) {
    const { first_retained, checkpoint } = node.status(0);
    t.true(first_retained > 10 && first_retained <= checkpoint);
  }
  return three;
}

/** In the end all hold the same state, from which every retained item can be read. */
async function inTheEnd(t: ExecutionContext, three: Replicas): Promise<void> {
  await three.add();
  await three.settled();
  for (const { machine } of three.running.values()) trim(machine);
  t.is(new Set([...three.running.values()].map(({ machine }) => stateHash(machine, 1))).size, 1);
  const { node, machine } = three.at(AWAY);
  let items = 0;
  for (const { index } of machine.queues()) {
    for (const { instance, offset, item_bytes } of index.after(0, index.items, Number.POSITIVE_INFINITY)) {
      const value = await node.value(0, instance);
      t.regex(Buffer.from(value.subarray(offset, offset + item_bytes)).toString('latin1'), /item \d+ x{100}/);
      items += 1;
    }
  }
  t.true(items > 0);
}

/** Lets the first `count` parts of a checkpoint through to the replica that was away, and no more. */
function parts(count: number): { readonly filter: Filter; readonly came: () => number; readonly from: () => number } {
  let came = 0;
  let sender = 0;
  const filter: Filter = (from, to, received) => {
    if (received.message.type !== 'snapshot_part' || to !== AWAY) return received;
    sender = from;
    came += 1;
    return came > count ? null : received;
  };
  return { filter, came: () => came, from: () => sender };
}

const everything: Filter = (_from, _to, received) => received;
const noValues: Filter = (_from, to, received) => {
  return to === AWAY && received.message.type === 'learn' ? null : received;
};

test('it catches up by a checkpoint while the others go on, and has the same state', async (t) => {
  const three = await withOneAway(t);
  const stop = three.load();
  await three.start(AWAY);
  const goes_on = new RegExp(`^${AWAY} group 0: goes on behind the checkpoint`);
  await until(() => three.lines.find((line) => goes_on.test(line)));
  await stop();
  await inTheEnd(t, three);
});

test('whoever is away once more catches up once more', async (t) => {
  const three = await withOneAway(t);
  await three.start(AWAY);
  await three.settled();
  await inTheEnd(t, three);
  await three.stop(AWAY);
  await three.addAll(50);
  await three.acknowledge(5);
  await three.settled();
  await three.checkpoint();
  await three.start(AWAY);
  await inTheEnd(t, three);
});

test('a receiver that dies while parts come begins again', async (t) => {
  const three = await withOneAway(t);
  const { filter, came } = parts(3);
  three.filter = filter;
  await three.start(AWAY);
  await until(() => (came() > 3 ? true : undefined));
  await three.crash(AWAY);
  three.filter = everything;
  await three.start(AWAY);
  await inTheEnd(t, three);
});

test('a receiver that dies while entries are missing goes on fetching, and serves nothing until then', async (t) => {
  const three = await withOneAway(t);
  three.filter = noValues;
  await three.start(AWAY);
  await until(() => (three.at(AWAY).node.status(0).stands_still ? true : undefined));
  await until(() =>
    three.lines.find((line) => /3 group 0: instances \d+ to \d+, which its checkpoint needs/.test(line)),
  );
  const { machine } = three.at(AWAY);
  // How much of the old one was known to be chosen when it was started is a matter of timing.
  t.true(machine.lastCursor(0) <= 5, 'until all is there the old state stays');
  await three.crash(AWAY);
  await three.start(AWAY);
  const { node } = three.at(AWAY);
  t.true(node.status(0).stands_still);
  t.deepEqual(node.mastership(0), { role: 'unknown' });
  await t.throwsAsync(node.propose(0, [Buffer.from('refused')]), { code: 'NO_MASTER' });
  // Others go on meanwhile.
  await three.add();
  t.true(node.status(0).stands_still);
  three.filter = everything;
  await inTheEnd(t, three);
});

test('when a sender dies another one goes on where it stopped', async (t) => {
  const three = await withOneAway(t);
  const { filter, came, from } = parts(3);
  three.filter = filter;
  await three.start(AWAY);
  await until(() => (came() > 3 ? true : undefined));
  await three.crash(from());
  const other = 3 - from();
  const offsets: number[] = [];
  three.filter = (_from, to, received) => {
    if (to === other && received.message.type === 'snapshot_fetch') offsets.push(received.message.offset);
    return received;
  };
  await inTheEnd(t, three);
  t.is(offsets[0], 3 * 500);
});

test('a damaged part is asked for again', async (t) => {
  const three = await withOneAway(t);
  let damaged = 0;
  three.filter = (_from, to, received) => {
    const { message } = received;
    if (to !== AWAY || message.type !== 'snapshot_part' || damaged > 0) return received;
    damaged += 1;
    const bytes = Uint8Array.from(message.bytes);
    bytes[7] = (bytes[7] ?? 0) ^ 4;
    return { ...received, message: { ...message, bytes } };
  };
  await three.start(AWAY);
  await inTheEnd(t, three);
  t.is(damaged, 1);
  t.is(three.lines.filter((line) => /a damaged part of a checkpoint came from replica/.test(line)).length, 1);
});
