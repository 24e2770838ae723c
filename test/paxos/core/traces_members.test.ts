/** Changes of the members as readable text; `npm run traces` writes them anew. The no-operations that lead to them are left out. */
import test from 'ava';
import { memberOf } from './probe.js';
import type { Script } from './script.js';
import { compare, led } from './trace.js';

/** Replica 1 leads 2 and 3, and 4 is there with an empty disk. */
function ledWithNewcomer(): Script {
  const script = led();
  script.hideNoops();
  script.join(4);
  return script;
}

/** The same, with 4 as a learner. */
function ledWithLearner(): Script {
  const script = ledWithNewcomer();
  script.change(1, { type: 'add_learner', member: memberOf(4) });
  script.pass(400);
  return script;
}

test('a learner is added and follows', (t) => {
  const script = ledWithNewcomer();
  script.propose(1, 'a');
  script.settle();
  script.say('4 becomes a learner');
  script.change(1, { type: 'add_learner', member: memberOf(4) });
  script.pass(400);
  script.propose(1, 'b');
  script.pass(100);
  t.deepEqual(script.applied(4), ['a', 'b']);
  compare(t, 'learner_added', script);
});

test('a learner becomes a voter: its promise is asked for before its acceptance counts', (t) => {
  const script = ledWithLearner();
  script.say('4 gets a vote');
  script.change(1, { type: 'promote', id: 4 });
  script.pass(400);
  script.say('without 2 and 3 nothing is chosen, without 3 it is');
  script.lose(({ from, to }) => [from, to].some((id) => id === 2 || id === 3));
  script.propose(1, 'a');
  script.settle();
  t.deepEqual(script.applied(1), []);
  script.lose(({ from, to }) => from === 3 || to === 3);
  script.pass(300);
  t.deepEqual(script.applied(1), ['a']);
  compare(t, 'learner_promoted', script);
});

test('a replica is replaced under load', (t) => {
  const script = ledWithLearner();
  script.say('4 takes the place of 3');
  script.propose(1, 'a');
  script.change(1, { type: 'replace', id: 3, by: memberOf(4) });
  script.propose(1, 'b');
  script.settle();
  script.propose(1, 'c');
  script.pass(400);
  script.say('3 is told when it asks');
  script.pass(800);
  script.crash(3);
  script.propose(1, 'd');
  script.pass(100);
  t.deepEqual(script.applied(4), ['a', 'b', 'c', 'd']);
  t.true(script.isMaster(1));
  compare(t, 'replace_loaded', script);
});

test('the leader is removed: it drives the change on, then hands over', (t) => {
  const script = led();
  script.hideNoops();
  script.say('1 removes itself');
  script.change(1, { type: 'remove', id: 1 });
  script.pass(200);
  t.true(script.isMaster(2));
  script.propose(2, 'a');
  script.pass(1_000);
  script.say('1 was thrown away');
  script.crash(1);
  script.propose(2, 'b');
  script.settle();
  t.deepEqual(script.applied(2), ['a', 'b']);
  compare(t, 'leader_removed', script);
});

test('a follower is removed', (t) => {
  const script = led();
  script.hideNoops();
  script.change(1, { type: 'remove', id: 3 });
  script.pass(1_000);
  t.true(script.isMaster(1));
  compare(t, 'follower_removed', script);
});

test('of two changes at once the second one is refused', (t) => {
  const script = ledWithNewcomer();
  script.change(1, { type: 'add_learner', member: memberOf(4) });
  script.change(1, { type: 'remove', id: 3 });
  script.settle();
  script.say('the first one is chosen, and does not govern yet');
  script.pass(20);
  script.change(1, { type: 'remove', id: 9 });
  script.pass(300);
  t.true(script.isMaster(1));
  compare(t, 'two_changes', script);
});

test('the leader dies between the choice of new members and the instance from which they govern', (t) => {
  const script = ledWithLearner();
  script.say('the change is chosen, and nobody but 1 knows; then 1 dies');
  script.lose(({ from, message }) => from === 1 && message.type !== 'accept');
  script.hold(({ from, to, message }) => from !== 1 && to === 1 && message.type !== 'accepted');
  script.change(1, { type: 'replace', id: 3, by: memberOf(4) });
  script.propose(1, 'a');
  script.crash(1);
  script.heal();
  script.release();
  script.say('who follows needs majorities of 1 2 3 and of 1 2 4');
  script.pass(1_500);
  const leader = [2, 3, 4].find((id) => script.isMaster(id)) ?? 0;
  t.not(leader, 0);
  script.propose(leader, 'b');
  script.pass(100);
  t.deepEqual(script.applied(4), script.applied(2));
  compare(t, 'leader_dies_in_change', script);
});

test('a leader of old members that comes back serves nobody and is not elected', (t) => {
  const script = ledWithLearner();
  script.say('1 is cut off; 2 leads and replaces it by 4');
  script.isolate(1);
  script.pass(1_000);
  const leader = script.isMaster(2) ? 2 : 3;
  script.change(leader, { type: 'replace', id: 1, by: memberOf(4) });
  script.pass(400);
  script.propose(leader, 'a');
  script.settle();
  t.true(script.isMaster(leader));
  script.say('1 is back');
  script.heal();
  script.pass(1_200);
  t.true(script.isMaster(leader));
  t.false(script.isMaster(1));
  compare(t, 'old_leader_returns', script);
});
