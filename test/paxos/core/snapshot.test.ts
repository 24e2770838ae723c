import test from 'ava';
import { ballotFrom, NO_BALLOT } from '../../../src/ts/paxos/core/ballot.js';
import { acceptAt, ballotOf, EMPTY, entryAt, founded, heartbeatAt, Probe, replyTo } from './probe.js';

const next = ballotOf(1, 3);
const snapshot = { through: 100, chain: 77, configurations: [founded([1, 2, 3])], retained_from: 101 };

test('a fetch of what the log does not hold any more asks for a snapshot', (t) => {
  const probe = new Probe({}, { ...EMPTY, chosen_through: 20, known_through: 20, retained_from: 11 });
  probe.receive(2, { type: 'fetch', from: 10, through: 20 });
  t.deepEqual(probe.snapshots, [2]);
  probe.receive(2, { type: 'fetch', from: 11, through: 20 });
  probe.step({ type: 'retained', from: 16 });
  probe.step({ type: 'retained', from: 12 });
  probe.receive(2, { type: 'fetch', from: 15, through: 20 });
  t.deepEqual(probe.snapshots, [2, 2]);
  t.deepEqual(probe.take('learn'), []);
});

test('a snapshot takes the place of everything below its end, what is above is applied after it', (t) => {
  const probe = new Probe();
  probe.receive(2, acceptAt(ballotOf(1, 2), 1, 'old'));
  probe.receive(3, acceptAt(next, 101, 'above', 101));
  probe.sync();
  probe.step({ type: 'snapshot_installed', snapshot });
  t.is(probe.group.applied_through, 101);
  t.deepEqual(probe.applied, [{ instance: 101, texts: ['above'] }]);
  probe.receive(3, { type: 'fetch', from: 100, through: 101 });
  t.deepEqual(probe.snapshots, [3], 'its own log begins above');
});

test('a snapshot of what was applied already changes nothing', (t) => {
  const probe = new Probe({}, { ...EMPTY, chosen_through: 100, known_through: 100 });
  probe.step({ type: 'snapshot_installed', snapshot });
  t.is(probe.group.chain, 0);
});

test('a snapshot may end between what is applied and what is known to be chosen', (t) => {
  const probe = new Probe();
  for (const instance of [1, 2, 3]) probe.receive(3, acceptAt(next, instance, `${instance}`, instance));
  t.is(probe.group.chosen_through, 3);
  probe.step({ type: 'snapshot_installed', snapshot: { ...snapshot, through: 2 } });
  t.is(probe.group.applied_through, 2);
  probe.sync();
  t.deepEqual(probe.applied, [{ instance: 3, texts: ['3'] }]);
});

test('of what a leader proposed below a snapshot nobody knows the outcome', (t) => {
  const probe = new Probe();
  const ballot = ballotFrom(probe.lead());
  probe.propose(1, 'a');
  probe.step({ type: 'snapshot_installed', snapshot });
  t.deepEqual(probe.refused, ['1 PROPOSE_TIMEOUT']);
  probe.propose(2, 'b');
  t.is(probe.take('accept').at(-1)?.instance, 101);
  probe.receive(2, replyTo({ ballot, sent_at_ms: probe.now_ms }));
  t.is(probe.group.role, 'leader');
});

test('the members come with the snapshot', (t) => {
  const probe = new Probe();
  const configuration = { ...founded([2, 3, 4]), chosen_at: 30, from: 94 };
  probe.step({ type: 'snapshot_installed', snapshot: { ...snapshot, configurations: [configuration] } });
  t.deepEqual(probe.group.configurations, [configuration]);
  probe.pass(3_000);
  t.is(probe.group.role, 'follower', 'it is no member any more');
});

/** 3 cannot be read; 4 can, and all up to there is known to be chosen. */
function damaged(): Probe {
  const entries = [entryAt(4, next, 'd'), entryAt(5, next, 'e')];
  const promised = ballotFrom(next);
  return new Probe({}, { ...EMPTY, promised, chosen_through: 2, known_through: 4, entries });
}

test('a damaged value is fetched from whoever has it and written again before anything above is applied', (t) => {
  const probe = damaged();
  probe.pass(60);
  const asked = probe.take('fetch');
  t.deepEqual(
    asked.map(({ from, through }) => [from, through]),
    [[3, 4]],
  );
  probe.receive(2, { type: 'learn', entries: [] });
  probe.pass(60);
  t.is(probe.take('fetch').length, 1, 'the other one is asked');
  probe.receive(3, { type: 'learn', entries: [entryAt(3, next, 'c'), entryAt(4, next, 'd')] });
  t.deepEqual(
    probe.written.map((write) => (write.type === 'entry' ? write.instance : 0)),
    [3],
  );
  t.is(probe.applied.length, 0);
  probe.sync();
  t.deepEqual(
    probe.applied.map(({ texts }) => texts[0]),
    ['c', 'd'],
  );
});

test('whoever leads is asked, too: the members that the replica knew may all be gone', (t) => {
  const probe = damaged();
  probe.receive(9, heartbeatAt(ballotOf(9, 9), 4));
  const asked = new Set<number>();
  for (let turn = 0; turn < 3; turn += 1) {
    probe.pass(600);
    for (const to of probe.askedToFetch()) asked.add(to);
  }
  t.deepEqual([...asked].sort(), [2, 3, 9]);
});

test('until then the replica has no vote: it cannot say what it accepted there', (t) => {
  const probe = damaged();
  const ballot = ballotFrom(ballotOf(9, 2));
  probe.receive(2, { type: 'prepare', ballot });
  probe.receive(2, heartbeatAt(ballotOf(9, 2), 0));
  probe.pass(2_000);
  probe.sync();
  t.is(probe.group.ballot, ballotFrom(next));
  t.true(probe.group.repairing);
  t.deepEqual([...probe.take('promise'), ...probe.take('pre_vote')], []);
  probe.receive(3, { type: 'learn', entries: [entryAt(3, next, 'c')] });
  probe.receive(2, { type: 'prepare', ballot });
  probe.sync();
  t.false(probe.group.repairing);
  t.deepEqual(
    probe
      .take('promise')
      .map(({ chosen_through, entries }) => [chosen_through, entries.map((entry) => entry.instance)]),
    [[4, [5]]],
  );
  t.not(probe.group.ballot, NO_BALLOT);
});
