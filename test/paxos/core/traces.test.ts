/** Scenarios of the protocol as readable text; `npm run traces` writes them anew, and the difference is reviewed. */
import test from 'ava';
import { Script } from './script.js';
import { compare, led } from './trace.js';

test('election and one proposal', (t) => {
  const script = led();
  t.true(script.isMaster(1));
  script.say('a proposal at the leader');
  script.propose(1, 'a');
  script.settle();
  t.deepEqual(script.applied(1), ['a']);
  script.say('a proposal elsewhere');
  script.propose(2, 'b');
  script.settle();
  compare(t, 'election', script);
});

test('instances are pipelined, and what waits is batched', (t) => {
  const script = new Script({ window_max: 2 });
  script.lose(({ from, message }) => from !== 1 && message.type === 'pre_vote');
  script.pass(120);
  script.heal();
  script.say('five proposals, room for two instances');
  for (const text of ['a', 'b', 'c', 'd', 'e']) script.propose(1, text);
  script.settle();
  t.deepEqual(script.applied(1), ['a', 'b', 'c', 'd', 'e']);
  compare(t, 'pipeline', script);
});

test('nothing is accepted before it is on disk', (t) => {
  const script = led();
  script.say('the disks of 1 and 2 hang');
  script.holdDisk(1);
  script.holdDisk(2);
  script.propose(1, 'a');
  script.settle();
  t.deepEqual(script.applied(1), []);
  script.say('the disk of 2 wakes up: chosen by 2 and 3, applied at 1 only when its own disk is done');
  script.syncDisk(2);
  t.deepEqual(script.applied(1), []);
  script.syncDisk(1);
  t.deepEqual(script.applied(1), ['a']);
  compare(t, 'slow_disk', script);
});

test('a value that one acceptor holds when the leader dies is chosen by the next leader', (t) => {
  const script = led();
  script.say('only 2 hears of "a", and nobody hears of it from 2');
  script.lose(({ from, to, message }) => message.type === 'accept' && from === 1 && to === 3);
  script.holdDisk(1);
  script.lose(({ from, to }) => (from === 1 && to === 3) || (from === 2 && to === 1));
  script.propose(1, 'a');
  script.settle();
  script.crash(1);
  script.heal();
  script.syncDisk(1);
  script.pass(1_000);
  t.deepEqual(script.applied(2), ['a']);
  t.deepEqual(script.applied(3), ['a']);
  compare(t, 'half_accepted', script);
});

test('a value that nobody else holds is not invented, and its place is used again', (t) => {
  const script = led();
  script.say('nobody hears of "lost"');
  script.isolate(1);
  script.propose(1, 'lost');
  script.settle();
  script.pass(1_000);
  const leader = script.isMaster(2) ? 2 : 3;
  t.true(script.isMaster(leader));
  t.false(script.isMaster(1));
  script.propose(leader, 'kept');
  script.settle();
  script.say('1 is back');
  script.heal();
  script.pass(600);
  for (const id of [1, 2, 3]) t.deepEqual(script.applied(id), ['kept']);
  compare(t, 'lost_value', script);
});

test('a replica that was away fetches what it missed', (t) => {
  const script = led();
  script.isolate(3);
  script.propose(1, 'a');
  script.propose(1, 'b');
  script.settle();
  script.heal();
  script.say('3 is back');
  script.pass(200);
  t.deepEqual(script.applied(3), ['a', 'b']);
  compare(t, 'catch_up', script);
});

test('a leader that is cut off stops serving before another one starts', (t) => {
  const script = led();
  script.isolate(1);
  let lapse_seen = false;
  for (let turn = 0; turn < 100; turn += 1) {
    script.pass(20);
    const masters = [1, 2, 3].filter((id) => script.isMaster(id));
    t.true(masters.length <= 1, `masters: ${masters.join(', ')}`);
    if (masters.length === 0) lapse_seen = true;
  }
  t.true(lapse_seen);
  t.false(script.isMaster(1));
  t.true(script.isMaster(2) || script.isMaster(3));
  compare(t, 'lease', script);
});

test('a restarted replica waits for the lease that it may have granted', (t) => {
  const script = led();
  script.say('1 and 2 crash; 2 is back at once, and must not elect 3 while the grant to 1 may run');
  script.crash(1);
  script.crash(2);
  script.start(2);
  script.pass(290);
  t.false(script.isMaster(2) || script.isMaster(3));
  script.pass(700);
  t.true(script.isMaster(2) || script.isMaster(3));
  compare(t, 'restart_grant', script);
});

test('everything acknowledged is there after all crash at once', (t) => {
  const script = led();
  script.propose(1, 'a', 'b');
  script.settle();
  for (const id of [1, 2, 3]) script.crash(id);
  for (const id of [1, 2, 3]) script.start(id);
  script.pass(1_200);
  for (const id of [1, 2, 3]) t.deepEqual(script.applied(id), ['a', 'b']);
  compare(t, 'power_cut', script);
});

test('the leadership is handed over while nothing happens', (t) => {
  const script = led();
  script.say('1 is asked to hand over');
  script.transfer(1, 2);
  script.settle();
  t.false(script.isMaster(1));
  t.true(script.isMaster(2));
  compare(t, 'hand_over_idle', script);
});

test('the leadership is handed over under load: what is in flight is finished, what waits is refused', (t) => {
  const script = led();
  script.propose(1, 'a');
  script.transfer(1, null);
  script.propose(1, 'b');
  script.settle();
  t.true(script.isMaster(2));
  script.propose(2, 'b');
  script.settle();
  script.pass(100);
  for (const id of [1, 2, 3]) t.deepEqual(script.applied(id), ['a', 'b']);
  compare(t, 'hand_over_loaded', script);
});

test('the target of a hand-over dies: the others elect one of themselves', (t) => {
  const script = led();
  script.lose(({ message }) => message.type === 'take_over');
  script.transfer(1, 2);
  script.settle();
  script.crash(2);
  script.heal();
  script.say('2 is dead, and never heard that it should lead');
  script.pass(900);
  t.true(script.isMaster(1) || script.isMaster(3));
  compare(t, 'hand_over_target_dies', script);
});

test('the target of a hand-over lags: the leader stays', (t) => {
  const script = led();
  script.lose(({ to, message }) => to === 2 && message.type !== 'heartbeat');
  script.propose(1, 'a');
  script.settle();
  script.transfer(1, 2);
  script.propose(1, 'b');
  script.pass(440);
  t.true(script.isMaster(1));
  t.deepEqual(script.applied(1), ['a', 'b']);
  compare(t, 'hand_over_target_lags', script);
});

test('a heartbeat that comes after the release costs time, not safety', (t) => {
  const script = led();
  script.say('3 gets the last heartbeat of 1 once more, after the release');
  const heartbeat = script.lastHeartbeat(1);
  script.hold(({ from, to }) => from === 2 && to === 3);
  script.lose(({ from, to }) => from === 2 && to === 1);
  script.transfer(1, 2);
  script.settle();
  script.deliver(1, 3, heartbeat, true);
  script.heal();
  script.release();
  for (let turn = 0; turn < 60; turn += 1) {
    script.pass(20);
    t.true([1, 2, 3].filter((id) => script.isMaster(id)).length <= 1);
  }
  t.true(script.isMaster(2) || script.isMaster(3));
  compare(t, 'late_heartbeat', script);
});
