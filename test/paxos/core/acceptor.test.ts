import test from 'ava';
import { type Ballot, NO_BALLOT, nextBallot, replicaOf } from '../../../src/ts/paxos/core/ballot.js';
import { Group } from '../../../src/ts/paxos/core/group.js';
import type { CoreOptions, Effect, Message, Proposal } from '../../../src/ts/paxos/core/types.js';
import { batchValue, commandsOf, noopValue, originOf } from '../../../src/ts/paxos/core/value.js';
import { configOf, EMPTY, emptyOf, replyTo } from './probe.js';

/** Late enough that no lease of an earlier life binds the replica. */
const START_MS = 100;

const low = nextBallot(NO_BALLOT, 2);
const high = nextBallot(low, 3);
const value = batchValue(low, [[Buffer.from('v')]]);

function follower(options: Partial<CoreOptions> = {}): Group {
  return new Group(configOf(options), EMPTY, 0);
}

/** What a replica sends once its disk is done. */
function answers(group: Group, from: number, message: Message, now_ms = START_MS): Message[] {
  const effects = group.step(now_ms, { type: 'message', from, message });
  const append = effects.find((effect): effect is Effect & { type: 'append' } => effect.type === 'append');
  const later = append === undefined ? [] : group.step(now_ms, { type: 'durable', append: append.append });
  return [...effects, ...later].flatMap((effect) => (effect.type === 'send' ? [effect.message] : []));
}

function accept(ballot: Ballot, instance = 1): Message {
  return { type: 'accept', ballot, instance, chosen_through: 0, value };
}

test('ballots order by round, then replica, and never repeat', (t) => {
  t.true(low < high);
  t.is(replicaOf(high), 3);
  t.true(nextBallot(high, 1) > high);
  t.not(nextBallot(low, 1), nextBallot(low, 2));
});

test('values name their commands and their origin', (t) => {
  const batch = batchValue(high, [[Buffer.from('ab'), Buffer.from('c')], [Buffer.from('')], [Buffer.from('d')]]);
  const texts = commandsOf(batch).map(({ offset, length }) => Buffer.from(batch.subarray(offset, offset + length)));
  t.deepEqual(texts.map(String), ['abc', '', 'd']);
  t.is(originOf(batch), high);
  t.deepEqual(commandsOf(noopValue(low)), []);
});

test('a value of an unknown kind or a damaged one is refused', (t) => {
  const unknown = Uint8Array.from(value);
  unknown[0] = 9;
  t.throws(() => commandsOf(unknown), { code: 'LOG_FORMAT' });
  t.throws(() => commandsOf(value.subarray(0, value.length - 1)), { code: 'LOG_CORRUPT' });
  t.throws(() => originOf(value.subarray(0, 3)), { code: 'LOG_CORRUPT' });
});

test('an acceptance is told only after it is durable', (t) => {
  const group = follower();
  const effects = group.step(START_MS, { type: 'message', from: 2, message: accept(low) });
  t.deepEqual(
    effects.map(({ type }) => type),
    ['append'],
  );
  const told = group.step(START_MS, { type: 'durable', append: 1 });
  t.deepEqual(told, [{ type: 'send', to: 2, message: { type: 'accepted', ballot: low, instances: [1] } }]);
});

test('a promise is told only after it is durable, with what was accepted', (t) => {
  const group = follower();
  answers(group, 2, accept(low));
  const effects = group.step(START_MS, { type: 'message', from: 3, message: { type: 'prepare', ballot: high } });
  t.deepEqual(
    effects.map(({ type }) => type),
    ['append'],
  );
  const [told] = group.step(START_MS, { type: 'durable', append: 2 });
  t.deepEqual(told, {
    type: 'send',
    to: 3,
    message: { type: 'promise', ballot: high, chosen_through: 0, entries: [{ instance: 1, ballot: low, value }] },
  });
});

test('below the promise nothing is accepted and nothing promised', (t) => {
  const group = follower();
  answers(group, 3, { type: 'prepare', ballot: high });
  const reject = [{ type: 'reject', ballot: low, promised: high }];
  t.deepEqual(answers(group, 2, accept(low)), reject);
  t.deepEqual(answers(group, 2, { type: 'prepare', ballot: low }), reject);
});

test('while a grant runs nobody else is promised anything', (t) => {
  const group = follower();
  const heartbeat: Message = {
    type: 'heartbeat',
    ballot: low,
    chosen_through: 0,
    applied_through: 0,
    sent_at_ms: 5,
    lease_ms: 400,
  };
  t.deepEqual(answers(group, 2, heartbeat, 110), [replyTo({ ballot: low, sent_at_ms: 5 })]);
  const prepare: Message = { type: 'prepare', ballot: high };
  t.false(answers(group, 3, prepare, 500).some(({ type }) => type === 'promise'));
  t.true(answers(group, 3, prepare, 550).some(({ type }) => type === 'promise'));
});

test('a doubled message changes nothing', (t) => {
  const group = follower();
  answers(group, 2, accept(low));
  const again = answers(group, 2, accept(low));
  t.true(again.every(({ type }) => type === 'accepted'));
  t.is(group.chosen_through, 0);
});

test('members that it does not know of yet are heeded, what claims to be from itself is not', (t) => {
  const group = follower();
  const ballot = nextBallot(NO_BALLOT, 9);
  t.deepEqual(answers(group, 9, accept(ballot)), [{ type: 'accepted', ballot, instances: [1] }]);
  t.deepEqual(group.step(START_MS, { type: 'message', from: 1, message: accept(low) }), []);
});

test('a follower refuses proposals, and so does a leader that has too many', (t) => {
  const proposal: Proposal = { id: 1, parts: [Buffer.from('x')], bytes: 1, deadline_ms: 1_000 };
  const refused = follower().step(START_MS, { type: 'propose', proposal });
  t.deepEqual(refused, [{ type: 'refuse', proposal: 1, reason: 'NO_MASTER', master: null }]);

  const leader = alone({ waiting_max: 1, command_bytes_max: 10 });
  t.deepEqual(leader.step(1_000, { type: 'propose', proposal }), []);
  const second = leader.step(1_000, { type: 'propose', proposal: { ...proposal, id: 2 } });
  t.like(second[0], { type: 'refuse', proposal: 2, reason: 'PROPOSE_FAST_REJECT' });
  const large = leader.step(1_000, { type: 'propose', proposal: { ...proposal, id: 3, bytes: 11 } });
  t.like(large[0], { type: 'refuse', proposal: 3, reason: 'SIZE_TOO_LARGE' });
});

test('a proposal whose time is over is refused once', (t) => {
  const leader = alone({});
  const proposal: Proposal = { id: 1, parts: [Buffer.from('x')], bytes: 1, deadline_ms: 1_500 };
  leader.step(1_000, { type: 'propose', proposal });
  const refusals = [1_400, 1_600, 1_800].flatMap((now_ms) =>
    leader.step(now_ms, { type: 'tick' }).filter(({ type }) => type === 'refuse'),
  );
  t.deepEqual(refusals, [{ type: 'refuse', proposal: 1, reason: 'PROPOSE_TIMEOUT', master: 1 }]);
});

/** The leader of a group of one, by its own votes and its own disk. */
function alone(options: Partial<CoreOptions>): Group {
  const group = new Group(configOf(options), emptyOf(1), 0);
  let appends = 0;
  for (let now_ms = 20; now_ms <= 1_000; now_ms += 20) {
    let effects = group.step(now_ms, { type: 'tick' });
    while (effects.some(({ type }) => type === 'append')) {
      appends += 1;
      effects = group.step(now_ms, { type: 'durable', append: appends });
    }
  }
  return group;
}
