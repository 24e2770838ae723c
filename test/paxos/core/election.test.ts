import test from 'ava';
import { ballotFrom, NO_BALLOT } from '../../../src/ts/paxos/core/ballot.js';
import type { Message } from '../../../src/ts/paxos/core/types.js';
import { ballotOf, EMPTY, emptyOf, entryAt, heartbeatAt, Probe, replyTo, textsOf } from './probe.js';

test('no prepare leaves before the own promise is durable', (t) => {
  const probe = new Probe();
  while (probe.group.role === 'follower') probe.pass(20);
  const [pre_vote] = probe.take('pre_vote');
  probe.receive(2, { type: 'pre_vote_reply', round: pre_vote?.round ?? 0, granted: true, promised: NO_BALLOT });
  t.deepEqual(probe.take('prepare'), []);
  t.like(probe.written.at(-1), { type: 'promise' });
  probe.sync();
  t.is(probe.take('prepare').length, 2);
});

test('a ballot is above everything promised before a restart, and above what others have seen', (t) => {
  const promised = ballotFrom(ballotOf(7, 3));
  t.is(new Probe({}, { ...EMPTY, promised }).prepare(), ballotOf(8, 1));

  const probe = new Probe({}, { ...EMPTY, promised });
  while (probe.group.role === 'follower') probe.pass(20);
  const [pre_vote] = probe.take('pre_vote');
  const round = pre_vote?.round ?? 0;
  probe.receive(3, { type: 'pre_vote_reply', round, granted: false, promised: ballotFrom(ballotOf(20, 2)) });
  probe.receive(2, { type: 'pre_vote_reply', round, granted: true, promised: NO_BALLOT });
  probe.sync();
  t.is(probe.take('prepare')[0]?.ballot, ballotFrom(ballotOf(21, 1)));
});

test('of what the majority accepted the value of the highest ballot is proposed again, holes are filled', (t) => {
  const entries = [entryAt(1, ballotOf(1, 1), 'low'), entryAt(3, ballotOf(1, 1), 'third')];
  const probe = new Probe({}, { ...EMPTY, promised: ballotFrom(ballotOf(3, 2)), entries });
  const ballot = probe.prepare();
  const theirs = [entryAt(1, ballotOf(2, 2), 'high')];
  probe.receive(2, { type: 'promise', ballot: ballotFrom(ballot), chosen_through: 0, entries: theirs });
  const proposed = new Map(probe.take('accept').map(({ instance, value }) => [instance, textsOf(value)]));
  t.deepEqual(
    [...proposed],
    [
      [1, ['high']],
      [2, []],
      [3, ['third']],
    ],
  );
});

test('the same, whoever of the two holds the higher ballot', (t) => {
  const entries = [entryAt(1, ballotOf(2, 1), 'high')];
  const probe = new Probe({}, { ...EMPTY, promised: ballotFrom(ballotOf(3, 2)), entries });
  const ballot = probe.prepare();
  const theirs = [entryAt(1, ballotOf(1, 2), 'low')];
  probe.receive(2, { type: 'promise', ballot: ballotFrom(ballot), chosen_through: 0, entries: theirs });
  t.deepEqual(
    probe.take('accept').map(({ value }) => textsOf(value)),
    [['high'], ['high']],
  );
});

test('what a promise says is chosen is fetched, not proposed', (t) => {
  const probe = new Probe();
  probe.lead([entryAt(6, ballotOf(1, 2), 'above')], 5);
  t.deepEqual(
    probe.take('fetch').map(({ from, through }) => [from, through]),
    [[1, 5]],
  );
  t.deepEqual(
    probe.take('accept').map(({ instance }) => instance),
    [6, 6],
  );
});

test('a leader whose source of chosen values is gone asks for promises again', (t) => {
  const probe = new Probe({ fetch_timeout_ms: 100 });
  const ballot = ballotFrom(probe.lead([], 5));
  for (let turn = 0; turn < 20 && probe.take('prepare').length === 0; turn += 1) {
    probe.pass(40);
    const heartbeat = probe.take('heartbeat').at(-1);
    if (heartbeat !== undefined) {
      probe.receive(3, replyTo({ ballot, sent_at_ms: heartbeat.sent_at_ms }));
    }
    probe.sync();
  }
  t.true(probe.group.ballot > ballot);
});

test('promises of another ballot, and the same promise twice, make no leader', (t) => {
  const probe = new Probe({}, emptyOf(1, 2, 3, 4, 5));
  while (probe.group.role === 'follower') probe.pass(20);
  const round = probe.take('pre_vote').at(-1)?.round ?? 0;
  for (const from of [2, 3]) probe.receive(from, { type: 'pre_vote_reply', round, granted: true, promised: NO_BALLOT });
  probe.sync();
  const ballot = probe.take('prepare').at(-1)?.ballot ?? NO_BALLOT;
  const promise: Message = { type: 'promise', ballot, chosen_through: 0, entries: [] };
  probe.receive(2, promise);
  probe.receive(2, promise);
  probe.receive(3, { ...promise, ballot: ballotFrom(ballot - 256) });
  t.is(probe.group.role, 'candidate');
  probe.receive(3, promise);
  t.is(probe.group.role, 'leader');
});

test('a pre-vote is refused under a grant to another, and to one that lags far behind', (t) => {
  const probe = new Probe({ candidate_lag_max: 10 }, { ...EMPTY, chosen_through: 100, known_through: 100 });
  const ask = (from: number, chosen_through: number): boolean | undefined => {
    probe.receive(from, { type: 'pre_vote', round: 1, chosen_through });
    return probe.take('pre_vote_reply').at(-1)?.granted;
  };
  t.true(ask(2, 90));
  t.false(ask(2, 89));
  probe.receive(3, heartbeatAt(ballotOf(1, 3), 100));
  probe.sync();
  t.false(ask(2, 100));
  t.true(ask(3, 100));
});

test('a replica that starts votes for nobody until the longest lease that it may have granted is over', (t) => {
  const probe = new Probe({}, { ...EMPTY, longest_grant_ms: 1_000 });
  const prepare: Message = { type: 'prepare', ballot: ballotFrom(ballotOf(1, 2)) };
  probe.pass(1_000);
  probe.receive(2, prepare);
  probe.receive(3, heartbeatAt(ballotOf(1, 3), 0));
  probe.sync();
  t.deepEqual([...probe.take('promise'), ...probe.take('heartbeat_reply')], []);
  t.is(probe.group.role, 'follower', 'nor does it stand itself');
  probe.pass(40);
  probe.receive(2, prepare);
  probe.sync();
  t.is(probe.take('promise').length, 1);
});

test('the length of a longer lease is durable before it is granted, later ones of that length cost no write', (t) => {
  const probe = new Probe();
  probe.receive(3, heartbeatAt(ballotOf(1, 3), 0, 5));
  t.deepEqual(probe.written, [{ type: 'longest_grant', lease_ms: 400 }]);
  t.deepEqual(probe.take('heartbeat_reply'), []);
  probe.sync();
  t.is(probe.take('heartbeat_reply').length, 1);
  probe.receive(3, heartbeatAt(ballotOf(1, 3), 0, 6));
  t.is(probe.take('heartbeat_reply').length, 1);
  t.is(probe.written.length, 1);
});

test('a promise given meanwhile voids a lower one whose write was under way', (t) => {
  const probe = new Probe();
  probe.receive(2, { type: 'prepare', ballot: ballotFrom(ballotOf(1, 2)) });
  probe.receive(3, { type: 'prepare', ballot: ballotFrom(ballotOf(1, 3)) });
  probe.sync();
  t.deepEqual(
    probe.take('promise').map(({ ballot }) => ballot),
    [ballotFrom(ballotOf(1, 3))],
  );
});
