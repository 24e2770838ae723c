import test from 'ava';
import fc from 'fast-check';
import { NO_BALLOT } from '../../../src/ts/paxos/core/ballot.js';
import { MEMBERS_DELAY, Members } from '../../../src/ts/paxos/core/members.js';
import type { Member } from '../../../src/ts/paxos/core/roster.js';
import { commandsOf, isAcceptable, membersValue, rosterOf } from '../../../src/ts/paxos/core/value.js';
import { founded, memberOf, valueAt } from './probe.js';

const voters = (...ids: readonly number[]): Member[] => ids.map((id) => ({ ...memberOf(id), role: 'voter' }));
const among =
  (...ids: readonly number[]) =>
  (id: number): boolean =>
    ids.includes(id);

/** Founders 1, 2, 3; at 10 the members 1, 2, 4 are chosen. */
function replaced(): Members {
  const members = new Members(1, [founded([1, 2, 3])]);
  members.learn(10, { based_on: 0, next_id: 5, members: voters(1, 2, 4) });
  return members;
}

const member = fc.record({
  role: fc.constantFrom('voter' as const, 'learner' as const),
  birth: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((birth) => birth.toString(16).padStart(16, '0')),
  host: fc.string({ maxLength: 60 }),
  port: fc.nat({ max: 65_535 }),
  site: fc.string({ unit: 'grapheme', maxLength: 20 }),
});

test('a members value comes back as it was', (t) => {
  fc.assert(
    fc.property(fc.array(member, { minLength: 1, maxLength: 9 }), fc.nat(), (list, based_on) => {
      const members = list.map((each, index) => ({ id: index + 1, ...each, role: index === 0 ? 'voter' : each.role }));
      const roster = { based_on, next_id: members.length + 1, members };
      const value = membersValue(NO_BALLOT, roster);
      t.deepEqual(rosterOf(value), roster);
      t.true(isAcceptable(value));
      t.deepEqual(commandsOf(value), []);
    }),
  );
});

test('bytes that are no list of members are refused', (t) => {
  const roster = { based_on: 0, next_id: 4, members: voters(1, 2, 3) };
  const value = membersValue(NO_BALLOT, roster);
  const unsound = [
    value.subarray(0, value.length - 1),
    value.subarray(0, 20),
    Uint8Array.from([...value, 0]),
    membersValue(NO_BALLOT, { ...roster, next_id: 3 }),
    membersValue(NO_BALLOT, { ...roster, members: voters(1, 1) }),
    membersValue(NO_BALLOT, { ...roster, members: [{ ...memberOf(1), role: 'learner' }] }),
    membersValue(NO_BALLOT, { ...roster, members: [] }),
  ];
  for (const bytes of unsound) {
    t.false(isAcceptable(bytes));
    t.throws(() => rosterOf(bytes), { code: 'LOG_CORRUPT' });
  }
  t.is(rosterOf(valueAt(1, 'a')), null);
});

test('new members govern later instances, and no earlier one', (t) => {
  const members = replaced();
  const from = 10 + MEMBERS_DELAY;
  t.true(members.isQuorum(from - 1, among(1, 3)));
  t.false(members.isQuorum(from - 1, among(1, 4)));
  t.false(members.isQuorum(from, among(1, 3)));
  t.true(members.isQuorum(from, among(1, 4)));
});

test('until the new members govern, phase 1 and leases need a majority of the old and of the new ones', (t) => {
  const members = replaced();
  t.false(members.isQuorumOfAll(20, among(1, 3)));
  t.false(members.isQuorumOfAll(20, among(1, 4)));
  t.true(members.isQuorumOfAll(20, among(1, 2)));
  t.true(members.isQuorumOfAll(20, among(1, 3, 4)));
  t.true(members.isQuorumOfAll(9 + MEMBERS_DELAY, among(1, 4)), 'nothing is left for the old ones');
  const times = new Map([
    [1, 50],
    [3, 40],
    [4, 30],
  ]);
  t.is(
    members.reachedByAll(20, (id) => times.get(id)),
    30,
  );
  times.delete(4);
  t.is(
    members.reachedByAll(20, (id) => times.get(id)),
    null,
  );
});

test('a change that was made from other members than the present ones is void', (t) => {
  const members = replaced();
  const roster = { based_on: 0, next_id: 6, members: voters(1, 2, 5) };
  t.false(members.learn(11, roster), 'two leaders, each with a change of its own');
  t.false(members.learn(200, roster));
  t.false(members.learn(11, { ...roster, based_on: 10 }), 'the one before does not govern yet');
  t.is(members.cameWith(11), null);
  t.true(members.learn(10 + MEMBERS_DELAY, { ...roster, based_on: 10 }));
  t.is(members.newest.chosen_at, 10 + MEMBERS_DELAY);
});

test('learners do not count, but are told', (t) => {
  const members = new Members(1, [founded([1, 2])]);
  members.learn(1, { based_on: 0, next_id: 4, members: [...voters(1, 2), { ...memberOf(3), role: 'learner' }] });
  t.false(members.isQuorum(100, among(1, 3)));
  t.false(members.isVoter(100, 3));
  t.deepEqual(members.others, [2, 3]);
  t.deepEqual(members.voters, [1, 2]);
});

test('who is in no present or later list is excluded, unless its id is still to come', (t) => {
  const members = replaced();
  t.false(members.isExcluded(20, 3));
  t.true(members.isExcluded(9 + MEMBERS_DELAY, 3));
  t.false(members.isExcluded(9 + MEMBERS_DELAY, 4));
  t.false(members.isExcluded(9 + MEMBERS_DELAY, 5));
});

test('what governs nothing above the applied prefix is forgotten', (t) => {
  const members = replaced();
  members.forget(8 + MEMBERS_DELAY);
  t.is(members.list.length, 2);
  members.forget(9 + MEMBERS_DELAY);
  t.deepEqual(
    members.list.map(({ from }) => from),
    [10 + MEMBERS_DELAY],
  );
  t.deepEqual(members.others, [2, 4]);
});
