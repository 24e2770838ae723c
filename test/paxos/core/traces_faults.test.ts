/** Faults of disks and clocks as readable text; `npm run traces` writes them anew. */
import test from 'ava';
import { memberOf } from './probe.js';
import { Script } from './script.js';
import { compare, led } from './trace.js';

test('a follower that reads a wrong value from its disk stops', (t) => {
  const script = led();
  script.propose(1, 'a');
  script.pass(100);
  script.propose(1, 'b');
  script.pass(100);
  script.crash(3);
  script.misread(3, true);
  script.start(3);
  script.say('3 has read a wrong value');
  script.pass(600);
  t.is(script.role(3), 'dead');
  t.true(script.isMaster(1));
  compare(t, 'follower_diverges', script);
});

test('a leader that has applied something else than a majority stops, and the others go on', (t) => {
  const script = led();
  script.propose(1, 'a');
  script.pass(100);
  script.propose(1, 'b');
  script.pass(100);
  script.say('1 reads a wrong value, and is elected again');
  for (const id of [1, 2, 3]) script.crash(id);
  script.misread(1, true);
  for (const id of [1, 2, 3]) script.start(id);
  script.lose(({ from, message }) => from !== 1 && message.type === 'pre_vote');
  script.pass(800);
  script.heal();
  script.pass(1_200);
  t.is(script.role(1), 'dead');
  t.true(script.isMaster(2) || script.isMaster(3));
  compare(t, 'leader_diverges', script);
});

test('after a checkpoint was learned the replica goes on without a restart', (t) => {
  const script = led();
  script.isolate(3);
  for (const text of ['a', 'b', 'c']) script.propose(1, text);
  script.pass(100);
  for (const id of [1, 2]) script.checkpoint(id);
  script.propose(1, 'd');
  script.pass(100);
  script.say('3 is back, and what it needs is in no log');
  script.heal();
  script.pass(400);
  script.propose(1, 'e');
  script.pass(100);
  t.deepEqual(script.applied(3), ['a', 'b', 'c', 'd', 'e']);
  compare(t, 'snapshot_jump', script);
});

test('a checkpoint that lies above everything in the log is started from', (t) => {
  const script = led();
  script.isolate(3);
  for (const text of ['a', 'b', 'c']) script.propose(1, text);
  script.pass(100);
  script.checkpoint(1);
  script.heal();
  script.lose(({ message }) => message.type === 'accept');
  script.pass(300);
  script.say('3 has a state through 3 and no log');
  script.crash(3);
  script.start(3);
  script.heal();
  script.propose(1, 'd');
  script.pass(500);
  t.deepEqual(script.applied(3), ['a', 'b', 'c', 'd']);
  compare(t, 'snapshot_above_the_log', script);
});

test('a checkpoint transfer that breaks off leaves nothing behind', (t) => {
  const script = led();
  script.isolate(3);
  for (const text of ['a', 'b']) script.propose(1, text);
  script.pass(100);
  script.checkpoint(1);
  script.loseSnapshots(true);
  script.heal();
  script.pass(300);
  script.say('3 starts anew, as if nothing had come');
  script.crash(3);
  script.start(3);
  script.loseSnapshots(false);
  script.pass(1_200);
  t.deepEqual(script.applied(3), ['a', 'b']);
  compare(t, 'snapshot_broken_off', script);
});

test('a record damaged by a kill does not keep the replica from starting: it fetches the value', (t) => {
  const script = led();
  for (const text of ['a', 'b', 'c']) script.propose(1, text);
  script.pass(100);
  script.propose(1, 'd');
  script.settle();
  script.crash(3);
  script.damage(3, 2);
  script.start(3);
  t.deepEqual(script.applied(3), ['a']);
  script.say('2 is down: 1 and 3 could elect, but 3 has no vote before it has fetched');
  script.crash(2);
  script.pass(1_500);
  t.deepEqual(script.applied(3), ['a', 'b', 'c', 'd']);
  t.true(script.isMaster(1));
  compare(t, 'damaged_record', script);
});

test('many values lost in the middle of the log are fetched before anything above is applied', (t) => {
  const script = led();
  for (let count = 1; count <= 12; count += 1) {
    script.propose(1, `v${count}`);
    script.settle();
  }
  script.pass(100);
  script.crash(3);
  script.damage(3, 3, 4, 5, 8, 9);
  script.start(3);
  script.say('3 has lost 3 to 5, 8 and 9');
  script.pass(700);
  t.deepEqual(script.applied(3), script.applied(1));
  compare(t, 'lost_in_the_middle', script);
});

test('a replica without its vote elects nobody, and follows', (t) => {
  const script = led();
  script.voting(3, false);
  script.propose(1, 'a');
  script.pass(200);
  t.deepEqual(script.applied(3), ['a']);
  script.say('1 is gone: 2 alone is no majority');
  script.crash(1);
  script.pass(1_200);
  t.false(script.isMaster(2));
  script.say('3 gets its vote');
  script.voting(3, true);
  script.pass(1_000);
  t.true(script.isMaster(2) || script.isMaster(3));
  compare(t, 'vote_withheld', script);
});

test('a replica that lost its disk comes back without a vote, and as a new member', (t) => {
  const script = led();
  script.hideNoops();
  script.propose(1, 'a');
  script.pass(100);
  script.crash(3);
  script.wipe(3);
  script.start(3);
  script.say('3 has lost its disk: it follows without a vote');
  script.pass(300);
  t.deepEqual(script.applied(3), ['a']);
  script.say('it comes in again as 4');
  script.crash(3);
  script.join(4);
  script.change(1, { type: 'add_learner', member: memberOf(4) });
  script.pass(300);
  script.change(1, { type: 'replace', id: 3, by: memberOf(4) });
  script.pass(300);
  script.crash(2);
  script.propose(1, 'b');
  script.pass(100);
  t.deepEqual(script.applied(4), ['a', 'b'], '1 and 4 are a majority');
  compare(t, 'disk_lost', script);
});

test('a lease does not survive that the wall clock and the monotonic one ran apart', (t) => {
  const script = led();
  t.true(script.isMaster(1));
  script.jumpClock(1);
  t.false(script.isMaster(1));
  script.pass(40);
  t.true(script.isMaster(1), 'renewed before it is used');
  compare(t, 'clock_jump', script);
});

test('a grant that comes late does not shorten the lease', (t) => {
  const script = led();
  script.pass(200);
  const late = script.lastReply(2);
  script.pass(200);
  script.lose(({ message }) => message.type === 'heartbeat_reply');
  script.deliver(2, 1, late, true);
  script.pass(260);
  t.true(script.isMaster(1), 'it holds the grants that came before');
  script.pass(120);
  t.false(script.isMaster(1));
  compare(t, 'late_grant', script);
});

test('a paused master finds its lease over', (t) => {
  const script = led();
  script.pause(1);
  script.pass(200);
  t.true(script.isMaster(1), 'its lease still runs');
  script.pass(640);
  t.false(script.isMaster(1), 'it did nothing, and does not serve');
  t.true(script.isMaster(2) || script.isMaster(3));
  script.resume(1);
  script.pass(100);
  t.is(script.role(1), 'follower');
  compare(t, 'paused_master', script);
});

test('two replicas that want to lead at the same time do not block each other for long', (t) => {
  const script = new Script();
  script.say('2 and 3 have their pre-votes, from 1 and from each other, before either prepares');
  script.hold(({ message }) => message.type === 'prepare');
  script.pass(100);
  script.release();
  script.pass(1_400);
  t.is([1, 2, 3].filter((id) => script.isMaster(id)).length, 1);
  compare(t, 'duelling', script);
});

test('a replica that was cut off does not depose the leader when it is back', (t) => {
  const script = led();
  script.isolate(3);
  script.pass(2_000);
  script.say('3 is back');
  script.heal();
  script.pass(300);
  t.true(script.isMaster(1));
  compare(t, 'returning_replica', script);
});
