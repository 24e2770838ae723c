import { crc32 } from 'node:zlib';
import test from 'ava';
import { ballotFrom } from '../../../src/ts/paxos/core/ballot.js';
import { Chain } from '../../../src/ts/paxos/core/chain.js';
import { acceptAt, ballotOf, emptyOf, heartbeatAt, Probe } from './probe.js';

/** A leader of `members` that has applied instance 1. */
function leader(members: readonly number[]): {
  probe: Probe;
  ballot: number;
  told: (from: number, chain: number) => void;
} {
  const probe = new Probe({}, emptyOf(...members));
  const ballot = probe.lead();
  probe.propose(1, 'a');
  probe.sync();
  for (const member of members.slice(1)) {
    probe.receive(member, { type: 'accepted', ballot: ballotFrom(ballot), instances: [1] });
  }
  const told = (from: number, chain: number): void => {
    const reply = { ballot: ballotFrom(ballot), sent_at_ms: probe.now_ms, granted: true, instance: 1, chain };
    probe.receive(from, { type: 'heartbeat_reply', ...reply });
  };
  return { probe, ballot, told };
}

test('each link of the chain depends on all values before it, and the oldest are forgotten', (t) => {
  const chain = new Chain(crc32, { instance: 0, chain: 0 });
  const other = new Chain(crc32, { instance: 0, chain: 0 });
  for (let instance = 1; instance <= 1_100; instance += 1) {
    chain.add(instance, Buffer.from(`value ${instance}`));
    other.add(instance, Buffer.from(instance === 3 ? 'another' : `value ${instance}`));
  }
  t.is(chain.end.instance, 1_100);
  t.not(chain.end.chain, other.end.chain);
  t.is(chain.at(76), null);
  t.not(chain.at(77), null);
  t.is(chain.at(1_101), null);
});

test('a chain goes on from the end of another one, without gaps', (t) => {
  const whole = new Chain(crc32, { instance: 0, chain: 0 });
  whole.add(1, Buffer.from('a'));
  const part = new Chain(crc32, { instance: 0, chain: 0 });
  part.restart(whole.end);
  for (const chain of [whole, part]) chain.add(2, Buffer.from('b'));
  t.deepEqual(part.end, whole.end);
  t.throws(() => part.add(4, Buffer.from('d')), { message: /no gaps/ });
  t.throws(() => part.restart({ instance: 2, chain: 0 }), { message: /never goes back/ });
});

test('a follower answers a heartbeat with its link where the leader is, or with its newest', (t) => {
  const probe = new Probe();
  const next = ballotOf(1, 3);
  probe.receive(3, acceptAt(next, 1, 'a'));
  probe.receive(3, acceptAt(next, 2, 'b', 2));
  probe.sync();
  const answer = (applied_through: number): unknown => {
    const heartbeat = heartbeatAt(next, 2);
    if (heartbeat.type !== 'heartbeat') throw new Error('no heartbeat');
    probe.receive(3, { ...heartbeat, applied_through });
    probe.sync();
    const [reply] = probe.take('heartbeat_reply');
    return reply?.instance;
  };
  t.is(answer(0), 0);
  t.is(answer(1), 1);
  t.is(answer(9), 2);
});

test('who differs while a majority agrees with the leader is told so', (t) => {
  const { probe, told } = leader([1, 2, 3]);
  told(3, probe.group.chain + 1);
  t.deepEqual(probe.take('diverged'), [], 'one against one: nobody knows who is right');
  told(2, probe.group.chain);
  told(3, probe.group.chain + 1);
  t.deepEqual(probe.take('diverged'), [{ type: 'diverged', instance: 1, chain: probe.group.chain }]);
  told(3, probe.group.chain);
  told(2, probe.group.chain + 1);
  t.is(probe.take('diverged').length, 1, 'whoever was repaired counts again');
});

test('a leader that differs from a majority stops', (t) => {
  const { told } = leader([1, 2, 3]);
  told(3, 77);
  const error = t.throws(() => told(2, 77), { code: 'LOG_DIVERGED' });
  t.regex(error.message, /group 0: at or before instance 1 no majority shares the values/);
});

test('of two replicas that differ the leader stops: no majority can be right', (t) => {
  const { told } = leader([1, 2]);
  t.throws(() => told(2, 77), { code: 'LOG_DIVERGED' });
});

test('a link that the leader cannot compare says nothing', (t) => {
  const { probe, ballot } = leader([1, 2, 3]);
  for (const from of [2, 3]) {
    const reply = { ballot: ballotFrom(ballot), sent_at_ms: probe.now_ms, granted: true, instance: 2, chain: 77 };
    t.notThrows(() => probe.receive(from, { type: 'heartbeat_reply', ...reply }));
  }
});

test('a replica that a majority differs from stops, unless its own chain is the same', (t) => {
  const probe = new Probe();
  probe.receive(3, acceptAt(ballotOf(1, 3), 1, 'a'));
  probe.receive(3, heartbeatAt(ballotOf(1, 3), 1));
  probe.sync();
  const { chain } = probe.group;
  probe.receive(3, { type: 'diverged', instance: 1, chain });
  probe.receive(3, { type: 'diverged', instance: 2, chain: 77 });
  t.throws(() => probe.receive(3, { type: 'diverged', instance: 1, chain: chain + 1 }), { code: 'LOG_DIVERGED' });
});

test('who has not answered agrees with nothing, not even with the beginning', (t) => {
  const probe = new Probe({}, { ...emptyOf(1, 2, 3), chain: 5 });
  const ballot = ballotFrom(probe.lead());
  const reply = { ballot, sent_at_ms: probe.now_ms, granted: true, instance: 0, chain: 0 };
  probe.receive(2, { type: 'heartbeat_reply', ...reply });
  t.deepEqual(probe.take('diverged'), []);
  t.throws(() => probe.receive(3, { type: 'heartbeat_reply', ...reply }), { code: 'LOG_DIVERGED' });
});
