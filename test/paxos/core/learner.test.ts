import test from 'ava';
import { ballotFrom } from '../../../src/ts/paxos/core/ballot.js';
import { acceptAt, ballotOf, entryAt, heartbeatAt, Probe } from './probe.js';

const old = ballotOf(1, 2);
const next = ballotOf(2, 3);

test('what was learned stays, whatever an outdated leader still proposes', (t) => {
  const probe = new Probe();
  probe.pass(20);
  // 3 leads and says that 1 is chosen; its value comes by way of a fetch, and the disk is slow.
  probe.receive(3, heartbeatAt(next, 1));
  probe.sync();
  probe.pass(60);
  t.deepEqual(
    probe.take('fetch').map(({ from, through }) => [from, through]),
    [[1, 1]],
  );
  probe.receive(3, { type: 'learn', entries: [entryAt(1, next, 'chosen')] });
  t.is(probe.group.chosen_through, 1);
  t.is(probe.group.applied_through, 0);
  // An accept of 2, from before its leadership ended, was under way all the time.
  probe.receive(2, acceptAt(old, 1, 'outdated'));
  probe.sync();
  t.deepEqual(probe.applied, [{ instance: 1, texts: ['chosen'] }]);
});

test('a claim covers values accepted at its ballot or above, and no others', (t) => {
  const probe = new Probe();
  probe.receive(2, acceptAt(old, 1, 'never chosen'));
  probe.sync();
  probe.receive(3, acceptAt(next, 2, 'second', 2));
  probe.sync();
  t.is(probe.group.chosen_through, 0, 'the value of the lower ballot may not be the chosen one');
  probe.pass(60);
  t.is(probe.take('fetch').length, 1);
  probe.receive(3, { type: 'learn', entries: [entryAt(1, next, 'first')] });
  probe.sync();
  t.deepEqual(
    probe.applied.map(({ texts }) => texts),
    [['first'], ['second']],
  );
});

test('a value that comes after the claim that covers it is applied without being fetched', (t) => {
  const probe = new Probe();
  probe.receive(3, heartbeatAt(next, 1));
  probe.receive(3, acceptAt(next, 1, 'late'));
  probe.sync();
  t.deepEqual(probe.applied, [{ instance: 1, texts: ['late'] }]);
  probe.pass(100);
  t.deepEqual(probe.take('fetch'), []);
});

test('the next portion is fetched while the last one is written', (t) => {
  const probe = new Probe();
  probe.receive(3, heartbeatAt(next, 6));
  probe.sync();
  probe.pass(60);
  t.is(probe.take('fetch').length, 1);
  probe.receive(3, { type: 'learn', entries: [entryAt(1, next, 'a'), entryAt(2, next, 'b')] });
  t.deepEqual(
    probe.take('fetch').map(({ from }) => from),
    [3],
  );
});

test('where much waits for the disk the next portion is fetched when it is done with the last one', (t) => {
  const probe = new Probe({ fetch_ahead_bytes_max: 1 });
  probe.receive(3, heartbeatAt(next, 6));
  probe.sync();
  probe.pass(60);
  t.is(probe.take('fetch').length, 1);
  probe.receive(3, { type: 'learn', entries: [entryAt(1, next, 'a'), entryAt(2, next, 'b')] });
  probe.pass(2_000);
  t.deepEqual(probe.take('fetch'), [], 'what is not on disk fills the memory');
  probe.sync();
  t.deepEqual(
    probe.take('fetch').map(({ from }) => from),
    [3],
  );
});

test('a fetch that is not answered is sent again, an empty answer is no progress', (t) => {
  const probe = new Probe({ fetch_timeout_ms: 500, fetch_delay_ms: 40 });
  probe.receive(3, heartbeatAt(next, 6));
  probe.sync();
  probe.pass(60);
  t.is(probe.take('fetch').length, 1);
  probe.pass(400);
  t.is(probe.take('fetch').length, 0);
  probe.pass(200);
  t.is(probe.take('fetch').length, 1);
  probe.receive(3, { type: 'learn', entries: [] });
  t.is(probe.take('fetch').length, 0, 'not at once: it would be a busy loop');
  probe.pass(100);
  t.is(probe.take('fetch').length, 1);
});

test('two chosen values for one instance stop the replica', (t) => {
  const probe = new Probe();
  probe.receive(3, heartbeatAt(next, 3));
  probe.receive(3, { type: 'learn', entries: [entryAt(2, next, 'a')] });
  const error = t.throws(() => probe.receive(2, { type: 'learn', entries: [entryAt(2, old, 'b')] }));
  t.regex(error.message, /one value is chosen/);
});

test('values are applied in order, whatever order they come in', (t) => {
  const probe = new Probe();
  probe.receive(3, acceptAt(next, 3, 'c', 0));
  probe.receive(3, acceptAt(next, 2, 'b', 0));
  probe.sync();
  probe.receive(3, heartbeatAt(next, 3));
  t.deepEqual(probe.applied, []);
  probe.receive(3, acceptAt(next, 1, 'a', 0));
  probe.sync();
  t.deepEqual(
    probe.applied.map(({ texts }) => texts[0]),
    ['a', 'b', 'c'],
  );
});

test('only what is applied is served to others', (t) => {
  const probe = new Probe();
  probe.receive(3, acceptAt(next, 1, 'a', 0));
  probe.receive(2, { type: 'fetch', from: 1, through: 1 });
  t.deepEqual(probe.take('learn'), [{ type: 'learn', entries: [] }]);
  probe.receive(3, heartbeatAt(next, 1));
  probe.sync();
  const served = probe.group.step(probe.now_ms, {
    type: 'message',
    from: 2,
    message: { type: 'fetch', from: 1, through: 9 },
  });
  t.deepEqual(served, [{ type: 'serve_fetch', to: 2, from: 1, through: 1 }]);
});

test('too much ahead of a gap is not accepted, the next instance always is', (t) => {
  const probe = new Probe({ accepted_ahead_bytes_max: 100 });
  for (const instance of [2, 3, 1]) probe.receive(3, acceptAt(next, instance, 'x'.repeat(60)));
  probe.sync();
  t.deepEqual(
    probe.take('accepted').flatMap(({ instances }) => instances),
    [2, 1],
  );
  t.is(probe.group.ballot, ballotFrom(next));
});
