import test from 'ava';
import { ballotFrom, nextBallot } from '../../../src/ts/paxos/core/ballot.js';
import type { Message } from '../../../src/ts/paxos/core/types.js';
import { ballotOf, EMPTY, heartbeatAt, Probe, replyTo } from './probe.js';

/** A master that has applied instance 1, as 2 has. */
function master(): { probe: Probe; ballot: number; applied: (from: number, instance: number) => void } {
  const probe = new Probe();
  const ballot = probe.lead();
  probe.propose(1, 'a');
  probe.sync();
  probe.receive(2, { type: 'accepted', ballot: ballotFrom(ballot), instances: [1] });
  probe.grant();
  const applied = (from: number, instance: number): void => {
    const chain = instance === 1 ? probe.group.chain : 0;
    const reply = { ballot: ballotFrom(ballot), sent_at_ms: probe.now_ms, granted: true, instance, chain };
    probe.receive(from, { type: 'heartbeat_reply', ...reply });
  };
  return { probe, ballot, applied };
}

test('a leader hands over to a target that has applied all, and is no master from then on', (t) => {
  const { probe, ballot, applied } = master();
  applied(2, 1);
  t.true(probe.master);
  probe.step({ type: 'transfer', to: 2 });
  t.deepEqual(probe.transfers, ['to 2']);
  t.deepEqual(probe.take('take_over'), [{ type: 'take_over', ballot: ballotFrom(ballot) }]);
  t.deepEqual(probe.take('release'), [{ type: 'release', ballot: ballotFrom(ballot) }]);
  t.false(probe.master);
  t.is(probe.group.role, 'follower');
  probe.receive(2, { type: 'prepare', ballot: ballotFrom(ballotOf(2, 2)) });
  probe.sync();
  t.is(probe.take('promise').length, 1, 'its own grant is over, too');
});

test('it asks a target that lags, and what is proposed meanwhile waits and is sent to the target', (t) => {
  const { probe, applied } = master();
  probe.take('heartbeat');
  probe.step({ type: 'transfer', to: 2 });
  t.is(probe.take('heartbeat').length, 2, 'at once, to both');
  probe.propose(2, 'b');
  t.is(probe.group.waiting, 1);
  t.true(probe.master);
  applied(2, 1);
  t.deepEqual(probe.transfers, ['to 2']);
  t.deepEqual(probe.refused, ['2 NOT_MASTER']);
  t.is(probe.group.leader, 2);
});

test('what is in flight is finished first', (t) => {
  const { probe, ballot, applied } = master();
  applied(2, 1);
  probe.propose(2, 'b');
  probe.step({ type: 'transfer', to: 2 });
  t.deepEqual(probe.transfers, []);
  probe.sync();
  probe.receive(2, { type: 'accepted', ballot: ballotFrom(ballot), instances: [2] });
  t.deepEqual(probe.answered, [1, 2]);
  t.deepEqual(probe.transfers, [], '2 has not applied the second one');
  applied(2, 2);
  t.deepEqual(probe.transfers, ['to 2']);
});

test('without a target one that is silent is not taken', (t) => {
  const { probe, applied } = master();
  applied(2, 1);
  applied(3, 1);
  probe.pass(300);
  applied(3, 1);
  probe.step({ type: 'transfer', to: null });
  t.deepEqual(probe.transfers, ['to 3']);
});

test('without a target the voter that has applied most is taken', (t) => {
  const { probe, applied } = master();
  applied(3, 1);
  probe.step({ type: 'transfer', to: null });
  t.deepEqual(probe.transfers, ['to 3']);
});

test('a hand-over that is not done in time is given up, and service goes on', (t) => {
  const { probe, ballot } = master();
  probe.step({ type: 'transfer', to: 2 });
  probe.step({ type: 'transfer', to: 3 });
  t.deepEqual(probe.transfers, ['TRANSFER_PENDING']);
  for (let turn = 0; turn < 25; turn += 1) {
    probe.pass(20);
    const sent_at_ms = probe.take('heartbeat').at(-1)?.sent_at_ms;
    if (sent_at_ms !== undefined) probe.receive(3, replyTo({ ballot: ballotFrom(ballot), sent_at_ms }));
  }
  t.deepEqual(probe.transfers, ['TRANSFER_PENDING', 'TRANSFER_TIMEOUT']);
  t.true(probe.master);
  probe.propose(2, 'b');
  t.is(probe.group.waiting, 0);
});

test('hand-overs that cannot be are refused', (t) => {
  const { probe, applied } = master();
  for (const to of [1, 9]) probe.step({ type: 'transfer', to });
  const far = new Probe({ candidate_lag_max: 10 }, { ...EMPTY, chosen_through: 11, known_through: 11 });
  far.step({ type: 'transfer', to: 2 });
  far.lead([], 11);
  far.step({ type: 'transfer', to: 2 });
  t.deepEqual(far.transfers, ['NO_MASTER', 'TRANSFER_LAGS']);
  t.deepEqual(probe.transfers, ['TRANSFER_SELF', 'TRANSFER_UNKNOWN']);
  applied(2, 1);
  t.true(probe.master);
});

test('a deposed leader hands nothing over', (t) => {
  const { probe } = master();
  probe.step({ type: 'transfer', to: 2 });
  probe.receive(3, { type: 'accept', ...acceptOf(ballotOf(9, 3)) });
  t.deepEqual(probe.transfers, ['NOT_MASTER']);
});

test('the target prepares at once', (t) => {
  const probe = new Probe();
  probe.receive(3, heartbeatAt(ballotOf(1, 3), 0));
  probe.sync();
  probe.receive(3, { type: 'take_over', ballot: ballotFrom(ballotOf(1, 3)) });
  probe.sync();
  t.is(probe.take('prepare')[0]?.ballot, nextBallot(ballotFrom(ballotOf(1, 3)), 1));
});

test('a request of an earlier term moves nobody: the grant of the present leader binds', (t) => {
  const probe = new Probe();
  probe.receive(2, heartbeatAt(ballotOf(1, 2), 0));
  probe.sync();
  probe.pass(440);
  probe.receive(3, { type: 'accept', ...acceptOf(ballotOf(2, 3)) });
  probe.receive(3, heartbeatAt(ballotOf(2, 3), 0, 5));
  probe.sync();
  for (const type of ['take_over', 'release'] as const) probe.receive(2, { type, ballot: ballotFrom(ballotOf(1, 2)) });
  probe.sync();
  t.is(probe.group.role, 'follower');
  probe.receive(2, { type: 'prepare', ballot: ballotFrom(ballotOf(3, 2)) });
  probe.sync();
  t.deepEqual([...probe.take('prepare'), ...probe.take('promise')], []);
});

test('a release ends the grant of its ballot', (t) => {
  const probe = new Probe();
  const prepare: Message = { type: 'prepare', ballot: ballotFrom(ballotOf(2, 2)) };
  probe.receive(3, heartbeatAt(ballotOf(1, 3), 0));
  probe.sync();
  probe.receive(2, prepare);
  probe.sync();
  t.is(probe.take('promise').length, 0);
  probe.receive(3, { type: 'release', ballot: ballotFrom(ballotOf(1, 3)) });
  probe.receive(2, prepare);
  probe.sync();
  t.is(probe.take('promise').length, 1);
});

function acceptOf(ballot: number): Omit<Message & { type: 'accept' }, 'type'> {
  return { ballot: ballotFrom(ballot), instance: 2, chosen_through: 0, value: new Uint8Array(16) };
}
