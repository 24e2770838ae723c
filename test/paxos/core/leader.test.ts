import test from 'ava';
import { ballotFrom } from '../../../src/ts/paxos/core/ballot.js';
import { DEFAULT_CORE_OPTIONS } from '../../../src/ts/paxos/core/types.js';
import { acceptAt, ballotOf, entryAt, Probe, replyTo, textsOf } from './probe.js';

const { lease_ms, lease_margin_ms, heartbeat_ms } = DEFAULT_CORE_OPTIONS;

test('a majority of promises makes a leader, a majority of grants a master', (t) => {
  const probe = new Probe();
  probe.lead();
  t.is(probe.group.role, 'leader');
  t.false(probe.master);
  probe.grant();
  t.true(probe.master);
});

test('the lease counts from the sending of the heartbeat, less the margin', (t) => {
  const probe = new Probe();
  probe.lead();
  const sent_at_ms = probe.now_ms;
  probe.now_ms += 100;
  probe.grant();
  t.true(probe.group.isMaster(sent_at_ms + lease_ms - lease_margin_ms - 1));
  t.false(probe.group.isMaster(sent_at_ms + lease_ms - lease_margin_ms));
});

test('an answer to an older heartbeat does not shorten the lease, one to another ballot does not count', (t) => {
  const probe = new Probe();
  const ballot = ballotFrom(probe.lead());
  const first_ms = probe.now_ms;
  probe.pass(heartbeat_ms);
  const second_ms = probe.now_ms;
  probe.receive(2, replyTo({ ballot, sent_at_ms: second_ms }));
  probe.receive(2, replyTo({ ballot, sent_at_ms: first_ms }));
  t.true(probe.group.isMaster(first_ms + lease_ms));
  probe.receive(3, replyTo({ ballot: ballotFrom(ballot + 256), sent_at_ms: second_ms + 1_000 }));
  t.false(probe.group.isMaster(second_ms + lease_ms));
});

test('after a jump of the clock only heartbeats sent since count', (t) => {
  const probe = new Probe();
  const ballot = ballotFrom(probe.lead());
  const sent_at_ms = probe.take('heartbeat').at(-1)?.sent_at_ms ?? 0;
  probe.receive(2, replyTo({ ballot, sent_at_ms }));
  t.true(probe.master);
  probe.step({ type: 'clock_jump' });
  t.false(probe.master);
  // The machine slept with these answers in its sockets: nobody knows how old they are.
  probe.receive(3, replyTo({ ballot, sent_at_ms }));
  probe.receive(2, replyTo({ ballot, sent_at_ms }));
  t.false(probe.master);
  probe.pass(heartbeat_ms);
  probe.grant();
  t.true(probe.master);
});

test('a leader that no majority follows steps down and refuses what waits', (t) => {
  const probe = new Probe({ window_max: 1 });
  probe.lead();
  probe.grant();
  probe.propose(1, 'in flight');
  probe.propose(2, 'waits');
  probe.pass(lease_ms);
  t.is(probe.group.role, 'leader', 'a lease that just ended may be renewed');
  probe.pass(lease_ms);
  t.is(probe.group.role, 'follower');
  t.deepEqual(probe.refused, ['2 NOT_MASTER']);
  probe.pass(5_000);
  t.deepEqual(probe.refused, ['2 NOT_MASTER', '1 PROPOSE_TIMEOUT'], 'what was in flight may still be chosen');
});

test('a deposed leader does not disturb the next one', (t) => {
  const probe = new Probe();
  const ballot = ballotFrom(probe.lead());
  probe.grant();
  probe.now_ms += lease_ms;
  probe.receive(2, { type: 'reject', ballot, promised: ballotFrom(ballotOf(5, 2)) });
  probe.sync();
  t.is(probe.group.role, 'follower');
  t.deepEqual(probe.take('prepare'), []);
});

test('a leader with its lease takes a higher ballot when a stray candidate got a promise', (t) => {
  const probe = new Probe();
  const ballot = ballotFrom(probe.lead());
  probe.grant();
  probe.receive(3, { type: 'reject', ballot, promised: ballotFrom(ballotOf(5, 2)) });
  probe.sync();
  t.deepEqual(
    probe.take('prepare').map((prepare) => prepare.ballot),
    [ballotFrom(ballotOf(6, 1)), ballotFrom(ballotOf(6, 1))],
  );
});

test('reads wait for everything that may have been chosen before', (t) => {
  const probe = new Probe();
  const ballot = ballotFrom(probe.lead([entryAt(1, ballotOf(1, 2), 'of another leader')]));
  probe.grant();
  t.false(probe.master, 'an acknowledged write may be among what is not applied yet');
  probe.receive(2, { type: 'accepted', ballot, instances: [1] });
  t.deepEqual(probe.applied, [{ instance: 1, texts: ['of another leader'] }]);
  t.true(probe.master);
});

test('a value is applied when a majority holds it and the own disk does', (t) => {
  const probe = new Probe();
  const ballot = ballotFrom(probe.lead());
  probe.propose(1, 'a');
  probe.receive(2, { type: 'accepted', ballot, instances: [1] });
  t.deepEqual(probe.answered, [], 'one vote, and the own disk is not done');
  probe.receive(3, { type: 'accepted', ballot, instances: [1] });
  t.is(probe.group.chosen_through, 1);
  t.deepEqual(probe.answered, []);
  probe.sync();
  t.deepEqual(probe.answered, [1]);
});

test('an acceptance counts once, however often it comes', (t) => {
  const probe = new Probe();
  const ballot = ballotFrom(probe.lead());
  probe.propose(1, 'a');
  for (let time = 0; time < 3; time += 1) probe.receive(2, { type: 'accepted', ballot, instances: [1, 1] });
  t.is(probe.group.chosen_through, 0);
});

test('what nobody answers is sent again, to those who have not answered', (t) => {
  const probe = new Probe({ retransmit_ms: 100 });
  const ballot = ballotFrom(probe.lead());
  probe.propose(1, 'a');
  t.is(probe.take('accept').length, 2);
  probe.receive(2, { type: 'accepted', ballot, instances: [1] });
  probe.pass(100);
  t.is(probe.take('accept').length, 1);
});

test('what was known to be chosen before an election needs no second vote of its holder', (t) => {
  const probe = new Probe();
  const first = ballotFrom(probe.lead());
  probe.propose(1, 'a');
  probe.propose(2, 'b');
  probe.sync();
  probe.receive(2, { type: 'accepted', ballot: first, instances: [2] });
  t.deepEqual(probe.answered, [], 'the second is chosen, the first is not');
  probe.receive(3, { type: 'reject', ballot: first, promised: ballotFrom(ballotOf(5, 2)) });
  probe.sync();
  const second = probe.take('prepare').at(-1)?.ballot ?? first;
  probe.take('accept');
  probe.receive(2, { type: 'promise', ballot: second, chosen_through: 0, entries: [] });
  probe.sync();
  t.deepEqual(
    probe.take('accept').map(({ instance, value }) => [instance, textsOf(value)[0]]),
    [
      [1, 'a'],
      [1, 'a'],
      [2, 'b'],
      [2, 'b'],
    ],
  );
  probe.receive(2, { type: 'accepted', ballot: second, instances: [1, 2] });
  t.deepEqual(probe.answered, [1, 2]);
});

test('a proposal whose place another value takes is refused for good', (t) => {
  const probe = new Probe();
  probe.lead();
  probe.propose(1, 'mine');
  probe.sync();
  const theirs = ballotOf(9, 3);
  probe.receive(3, acceptAt(theirs, 1, 'theirs'));
  probe.receive(3, acceptAt(theirs, 2, 'says that 1 is chosen', 1));
  probe.sync();
  t.deepEqual(probe.applied, [{ instance: 1, texts: ['theirs'] }]);
  t.deepEqual(probe.refused, ['1 NOT_MASTER']);
  t.deepEqual(probe.answered, []);
});
