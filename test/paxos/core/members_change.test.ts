import test from 'ava';
import { ballotFrom, NO_BALLOT } from '../../../src/ts/paxos/core/ballot.js';
import { MEMBERS_DELAY } from '../../../src/ts/paxos/core/members.js';
import type { CoreOptions, MembersChange, Message } from '../../../src/ts/paxos/core/types.js';
import { rosterOf } from '../../../src/ts/paxos/core/value.js';
import { acceptAt, ballotOf, emptyOf, founded, heartbeatAt, memberOf, Probe } from './probe.js';

const FROM = 1 + MEMBERS_DELAY;

/** A leader whose peers accept, promise, grant and apply all that it sends while they are among `alive`. */
class Led {
  readonly probe: Probe;
  #ids = 100;

  constructor(...founders: readonly number[]) {
    this.probe = new Probe({}, emptyOf(...founders));
    this.probe.lead();
  }

  ask(change: MembersChange): void {
    this.#ids += 1;
    this.probe.step({ type: 'change_members', id: this.#ids, deadline_ms: this.probe.now_ms + 10_000, change });
  }

  /** Lets the peers answer until nothing more happens. */
  run(...alive: readonly number[]): void {
    const { probe } = this;
    for (let turn = 0; turn < 40; turn += 1) {
      probe.sync();
      for (const { ballot } of probe.take('prepare').slice(0, 1)) {
        const promise: Message = { type: 'promise', ballot, chosen_through: 0, entries: [] };
        for (const from of alive) probe.receive(from, promise);
      }
      const accepts = probe.take('accept');
      for (const { ballot, instance } of accepts) {
        for (const from of alive) probe.receive(from, { type: 'accepted', ballot, instances: [instance] });
      }
      probe.pass(20);
      for (const { ballot, sent_at_ms } of probe.take('heartbeat')) {
        const { applied_through: instance, chain } = probe.group;
        const reply = { ballot, sent_at_ms, granted: true, instance, chain };
        for (const from of alive) probe.receive(from, { type: 'heartbeat_reply', ...reply });
      }
    }
  }
}

/** The leader of a group of one. */
function lone(options: Partial<CoreOptions> = {}): Probe {
  const probe = new Probe(options, emptyOf(1));
  while (probe.group.role !== 'leader') {
    probe.pass(20);
    probe.sync();
  }
  return probe;
}

test('a change is driven on with no-operations until it governs, and once more', (t) => {
  const led = new Led(1, 2, 3);
  led.ask({ type: 'add_learner', member: memberOf(4) });
  led.run(2);
  const { probe } = led;
  t.deepEqual(probe.members, [`1 2 3 (4) chosen at 1 from ${FROM}`]);
  t.deepEqual(probe.answered, [101]);
  t.is(probe.group.applied_through, FROM);
  probe.propose(1, 'a');
  const accepts = probe.take('accept').map(({ instance }) => instance);
  t.deepEqual(accepts, [FROM + 1, FROM + 1, FROM + 1], 'to all, learners too');
});

test('a second change is refused until the first one is settled', (t) => {
  const led = new Led(1, 2, 3);
  led.ask({ type: 'add_learner', member: memberOf(4) });
  led.ask({ type: 'remove', id: 3 });
  led.probe.step({ type: 'flush' });
  led.ask({ type: 'remove', id: 3 });
  t.deepEqual(led.probe.refused, ['102 MEMBERS_PENDING', '103 MEMBERS_PENDING']);
  led.run(2);
  led.ask({ type: 'remove', id: 3 });
  led.run(2);
  t.deepEqual(led.probe.answered, [101, 104]);
  t.is(led.probe.members.at(-1), `1 2 (4) chosen at ${FROM + 1} from ${FROM + 1 + MEMBERS_DELAY}`);
});

test('changes that cannot be are refused', (t) => {
  const led = new Led(1, 2, 3);
  const changes: readonly MembersChange[] = [
    { type: 'add_learner', member: memberOf(3) },
    { type: 'promote', id: 2 },
    { type: 'promote', id: 9 },
    { type: 'remove', id: 9 },
    { type: 'replace', id: 9, by: memberOf(4) },
    { type: 'replace', id: 3, by: memberOf(2) },
    { type: 'replace', id: 3, by: memberOf(3) },
    { type: 'add_learner', member: memberOf(65_536) },
    { type: 'add_learner', member: { ...memberOf(4), birth: 'none' } },
  ];
  for (const change of changes) led.ask(change);
  t.deepEqual(
    led.probe.refused.map((text) => text.split(' ')[1]),
    changes.map(() => 'MEMBERS_INVALID'),
  );
  const alone = lone();
  alone.step({ type: 'change_members', id: 1, deadline_ms: 9_000, change: { type: 'remove', id: 1 } });
  t.deepEqual(alone.refused, ['1 MEMBERS_INVALID'], 'somebody has to vote');
  const follower = new Probe();
  follower.step({ type: 'change_members', id: 1, deadline_ms: 9, change: { type: 'remove', id: 2 } });
  t.deepEqual(follower.refused, ['1 NO_MASTER']);
});

test('nobody gets a vote who has not caught up', (t) => {
  const probe = lone({ candidate_lag_max: 10 });
  for (let id = 1; id <= 20; id += 1) {
    probe.propose(id, 'a');
    probe.sync();
  }
  probe.step({
    type: 'change_members',
    id: 90,
    deadline_ms: 9_000,
    change: { type: 'replace', id: 1, by: memberOf(2) },
  });
  t.deepEqual(probe.refused, ['90 MEMBERS_LAGS']);
});

test('a promoted learner counts for later instances only, and its promise is asked for', (t) => {
  const led = new Led(1, 2, 3);
  led.ask({ type: 'add_learner', member: memberOf(4) });
  led.run(2, 4);
  led.ask({ type: 'promote', id: 4 });
  led.probe.step({ type: 'flush' });
  const at = FROM + 1;
  led.probe.sync();
  const { ballot } = led.probe.group;
  led.probe.receive(4, { type: 'accepted', ballot, instances: [at] });
  t.is(led.probe.group.chosen_through, FROM, 'a learner does not count');
  led.probe.receive(2, { type: 'accepted', ballot, instances: [at] });
  led.probe.sync();
  t.is(led.probe.take('prepare').length, 3, '1 and 2 are no majority of four');
  t.is(led.probe.group.role, 'candidate');
  const next = led.probe.group.ballot;
  led.probe.receive(2, { type: 'promise', ballot: next, chosen_through: at, entries: [] });
  t.is(led.probe.group.role, 'candidate');
  led.probe.receive(4, { type: 'promise', ballot: next, chosen_through: at, entries: [] });
  t.is(led.probe.group.role, 'leader');
});

test('the lease needs the new members before they govern', (t) => {
  const led = new Led(1, 2, 3);
  led.run(2);
  t.true(led.probe.master);
  led.ask({ type: 'replace', id: 3, by: memberOf(4) });
  led.probe.step({ type: 'flush' });
  led.probe.sync();
  const { ballot } = led.probe.group;
  led.probe.receive(2, { type: 'accepted', ballot, instances: [1] });
  t.true(led.probe.master, '1 and 2 are a majority of both');
  led.probe.pass(60);
  const sent_at_ms = led.probe.take('heartbeat').at(-1)?.sent_at_ms ?? 0;
  led.probe.pass(240);
  led.probe.receive(3, { type: 'heartbeat_reply', ballot, sent_at_ms, granted: true, instance: 0, chain: 0 });
  t.false(led.probe.master, '1 and 3 are none of the new ones');
  led.probe.receive(4, { type: 'heartbeat_reply', ballot, sent_at_ms, granted: true, instance: 0, chain: 0 });
  t.true(led.probe.master);
});

test('a leader that is removed hands over once the others govern', (t) => {
  const led = new Led(1, 2, 3);
  led.ask({ type: 'remove', id: 1 });
  led.run(2, 3);
  t.deepEqual(led.probe.transfers, ['to 2']);
  t.is(led.probe.group.applied_through, FROM - 1, 'it proposes nothing where it has no vote');
  t.is(led.probe.group.role, 'follower');
  led.probe.pass(3_000);
  t.is(led.probe.take('prepare').length, 0);
  t.true(led.probe.take('pre_vote').length > 0, 'it asks whether it is needed any more');
  led.probe.receive(2, { type: 'removed' });
  led.probe.receive(3, { type: 'removed' });
  t.true(led.probe.group.removed);
  t.deepEqual(led.probe.members.slice(-1), ['removed']);
});

test('a former member is told so by the leader, gets no vote, and may fetch', (t) => {
  const led = new Led(1, 2, 3);
  led.ask({ type: 'remove', id: 3 });
  led.run(2);
  led.probe.receive(3, { type: 'pre_vote', round: 1, chosen_through: 0 });
  led.probe.receive(3, { type: 'prepare', ballot: ballotFrom(ballotOf(99, 3)) });
  t.is(led.probe.take('removed').length, 2);
  t.deepEqual([...led.probe.take('pre_vote_reply'), ...led.probe.take('promise')], []);
  t.is(led.probe.group.role, 'leader');
  const fetch: Message = { type: 'fetch', from: 1, through: 1 };
  const served = led.probe.group.step(led.probe.now_ms, { type: 'message', from: 3, message: fetch });
  t.like(served[0], { type: 'serve_fetch', to: 3 });
});

test('of two changes that an election brings back the one based on the other members is void', (t) => {
  const led = new Led(1, 2, 3);
  led.ask({ type: 'add_learner', member: memberOf(4) });
  led.probe.step({ type: 'flush' });
  const value = led.probe.take('accept')[0]?.value ?? new Uint8Array();
  t.is(rosterOf(value)?.based_on, 0);
  const follower = new Probe();
  for (const instance of [1, 2]) {
    const accept = acceptAt(ballotOf(9, 3), instance, '');
    follower.receive(3, { ...accept, value } as Message);
  }
  follower.receive(3, heartbeatAt(ballotOf(9, 3), 2));
  follower.sync();
  t.is(follower.group.applied_through, 2);
  t.deepEqual(follower.members, [`1 2 3 (4) chosen at 1 from ${FROM}`]);
});

test('a learner neither stands nor is told that it was removed', (t) => {
  const probe = new Probe({}, { ...emptyOf(2, 3), configurations: [founded([2, 3])] });
  probe.pass(3_000);
  t.is(probe.group.role, 'follower');
  t.false(probe.group.removed);
  t.is(probe.group.ballot, NO_BALLOT);
});
