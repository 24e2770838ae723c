import test from 'ava';
import { ballotFrom, NO_BALLOT, replicaOf } from '../../../src/ts/paxos/core/ballot.js';
import { acceptAt, ballotOf, entryAt, heartbeatAt, Probe } from './probe.js';

const next = ballotOf(1, 3);

function withheld(): Probe {
  const probe = new Probe();
  probe.step({ type: 'voting', allowed: false });
  return probe;
}

test('without its vote a replica promises, accepts and grants nothing, and does not stand', (t) => {
  const probe = withheld();
  probe.receive(2, { type: 'pre_vote', round: 1, chosen_through: 0 });
  probe.receive(2, { type: 'prepare', ballot: ballotFrom(ballotOf(1, 2)) });
  probe.receive(3, acceptAt(next, 1, 'a'));
  probe.receive(3, heartbeatAt(next, 0));
  probe.receive(3, { type: 'take_over', ballot: ballotFrom(next) });
  probe.sync();
  t.is(probe.group.leader, 3);
  probe.pass(2_000);
  t.is(probe.group.leader, null, 'it was not heard any more');
  t.deepEqual(probe.written, []);
  t.is(probe.take('pre_vote_reply')[0]?.granted, false);
  t.is(probe.take('heartbeat_reply')[0]?.granted, false);
  t.deepEqual([...probe.take('promise'), ...probe.take('accepted'), ...probe.take('pre_vote')], []);
  t.is(probe.group.role, 'follower');
});

test('it learns by fetching what the leader says is chosen', (t) => {
  const probe = withheld();
  probe.receive(3, acceptAt(next, 2, 'b', 1));
  probe.pass(60);
  t.deepEqual(
    probe.take('fetch').map(({ from, through }) => [from, through]),
    [[1, 1]],
  );
  probe.receive(3, { type: 'learn', entries: [entryAt(1, next, 'a')] });
  probe.sync();
  t.deepEqual(probe.applied, [{ instance: 1, texts: ['a'] }]);
});

test('what was on its way to the disk when the vote was taken away is not said any more', (t) => {
  const probe = new Probe();
  probe.receive(2, { type: 'prepare', ballot: ballotFrom(ballotOf(1, 2)) });
  probe.receive(2, acceptAt(ballotOf(1, 2), 1, 'a'));
  probe.receive(2, heartbeatAt(ballotOf(1, 2), 0));
  probe.step({ type: 'voting', allowed: false });
  probe.sync();
  t.deepEqual([...probe.take('promise'), ...probe.take('accepted'), ...probe.take('heartbeat_reply')], []);
});

test('a leader whose vote is taken away steps down', (t) => {
  const probe = new Probe();
  probe.lead();
  probe.grant();
  t.true(probe.master);
  probe.step({ type: 'voting', allowed: false });
  t.false(probe.master);
  t.is(probe.group.role, 'follower');
});

test('with its vote given back it votes again', (t) => {
  const probe = withheld();
  probe.step({ type: 'voting', allowed: true });
  probe.receive(2, { type: 'prepare', ballot: ballotFrom(ballotOf(1, 2)) });
  probe.sync();
  t.is(probe.take('promise').length, 1);
  t.true(probe.group.ballot > NO_BALLOT);
});

test('without a vote it may become another member, and speaks and votes as that one from then on', (t) => {
  const probe = withheld();
  probe.step({ type: 'named', self: 0 });
  t.is(probe.group.self, 0);
  probe.receive(3, heartbeatAt(next, 0));
  t.is(probe.take('heartbeat_reply')[0]?.granted, false);
  probe.step({ type: 'named', self: 2 });
  probe.step({ type: 'voting', allowed: true });
  probe.pass(450);
  const round = probe.take('pre_vote').at(-1)?.round ?? 0;
  probe.receive(1, { type: 'pre_vote_reply', round, granted: true, promised: NO_BALLOT });
  probe.sync();
  t.deepEqual([...new Set(probe.take('prepare').map(({ ballot }) => replicaOf(ballot)))], [2]);
});

test('who votes keeps its id', (t) => {
  const probe = new Probe();
  t.throws(() => probe.step({ type: 'named', self: 2 }), { message: /who votes keeps its id/ });
});
