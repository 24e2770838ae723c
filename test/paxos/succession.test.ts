import test from 'ava';
import { PhxError } from '../../src/ts/errors.js';
import type { Configuration } from '../../src/ts/paxos/core/members.js';
import type { Member } from '../../src/ts/paxos/core/roster.js';
import type { MembersChange } from '../../src/ts/paxos/core/types.js';
import { PLACES_MAX, placeOf, unsettledSentence, voterIds } from '../../src/ts/paxos/places.js';
import { changeFor, type Joiner, Succession } from '../../src/ts/paxos/succession.js';
import { FOUNDERS } from './beginning.js';
import { reportOf } from './sockets.js';

const REPLICA = { id: 3, host: '127.0.0.1', paxos_port: 5_003 };
const ID = 3 + PLACES_MAX;
const joiner: Joiner = { replica: REPLICA, birth: reportOf(7).birth };
const next: Joiner = { replica: REPLICA, birth: reportOf(8).birth };

function member(id: number, birth: string, role: Member['role']): Member {
  return { id, birth, role, host: REPLICA.host, port: REPLICA.paxos_port, site: '' };
}

/** The founders without those left out, and others. */
function members(left_out: readonly number[], ...added: readonly Member[]): Configuration {
  const rest = FOUNDERS.members.filter(({ id }) => !left_out.includes(id));
  const next_id = Math.max(FOUNDERS.next_id, ...added.map(({ id }) => id + 1));
  return { chosen_at: 1, from: 65, next_id, members: [...rest, ...added] };
}

test('a replica that joins becomes a learner, then takes the place of its predecessor, and that is all', (t) => {
  const { role, ...newcomer } = member(ID, joiner.birth, 'learner');
  t.is(role, 'learner');
  t.deepEqual(changeFor(FOUNDERS, joiner), { type: 'add_learner', member: newcomer });
  const learns = members([], { ...newcomer, role });
  t.like(changeFor(learns, joiner), { type: 'replace', id: 3, by: { id: ID } });
  t.is(changeFor(members([3], { ...newcomer, role: 'voter' }), joiner), null);
});

test('one that lost its disk again takes the place of the learner that it was, or of the voter', (t) => {
  const learns = members([], member(ID, joiner.birth, 'learner'));
  t.like(changeFor(learns, next), { type: 'replace', id: ID, by: { id: ID + PLACES_MAX, birth: next.birth } });
  const votes = members([3], member(ID, joiner.birth, 'voter'));
  t.like(changeFor(votes, next), { type: 'add_learner', member: { id: ID + PLACES_MAX, birth: next.birth } });
  const both = members([3], member(ID, joiner.birth, 'voter'), member(ID + PLACES_MAX, next.birth, 'learner'));
  t.like(changeFor(both, next), { type: 'replace', id: ID, by: { id: ID + PLACES_MAX } });
});

test('a member whose place has no voter gets the vote', (t) => {
  t.deepEqual(changeFor(members([3], member(ID, joiner.birth, 'learner')), joiner), { type: 'promote', id: ID });
});

test('without an id that is free there is no change', (t) => {
  t.is(changeFor({ ...FOUNDERS, next_id: 65_536 }, joiner), null);
});

test('the ids of a birth are those of voters of the newest members', (t) => {
  const group = (...configurations: Configuration[]): { configurations: Configuration[] } => ({ configurations });
  const learner = members([], member(ID, joiner.birth, 'learner'));
  const voter = members([3], member(ID, joiner.birth, 'voter'));
  const replaced = members([3], member(ID + PLACES_MAX, next.birth, 'voter'));
  const groups = [group(FOUNDERS), group(FOUNDERS, learner), group(learner, voter), group(voter, replaced)];
  t.deepEqual(voterIds(joiner.birth, groups), [null, null, ID, null]);
  t.is(placeOf(ID), 3);
});

test('a new member says that it is not settled until its own members govern what it applies next', (t) => {
  const voter = members([3], member(ID, joiner.birth, 'voter'));
  t.is(unsettledSentence([{ self: ID, configurations: [voter] }]), '');
  t.is(unsettledSentence([{ self: 1, configurations: [FOUNDERS, voter] }]), '', 'the others are no less than before');
  const groups = [
    { self: ID, configurations: [voter] },
    { self: ID, configurations: [FOUNDERS, voter] },
  ];
  t.regex(unsettledSentence(groups), /^it votes; in 1 groups it has still to apply what was chosen before/);
});

test('a learner that lags keeps no other one from its vote', (t) => {
  const slow: Joiner = { replica: { ...REPLICA, id: 2 }, birth: reportOf(9).birth };
  const SLOW_ID = 2 + PLACES_MAX;
  const newest = members([], member(SLOW_ID, slow.birth, 'learner'), member(ID, joiner.birth, 'learner'));
  const asked: MembersChange[] = [];
  const succession = new Succession({
    groups: [{ role: 'leader', configurations: [newest], appliedAt: () => newest.from }],
    joiners: () => [slow, joiner],
    logger: { info: () => undefined, warn: (line) => t.fail(line) },
    change: (_group, change) => {
      asked.push(change);
      return Promise.reject(new PhxError('MEMBERS_LAGS', 'it lags', { retryable: true }));
    },
  });
  for (let now_ms = 0; now_ms < 2_000; now_ms += 20) succession.tick(now_ms);
  t.like(asked, [
    { type: 'replace', id: 2, by: { id: SLOW_ID } },
    { type: 'replace', id: 3, by: { id: ID } },
  ]);
  t.is(asked.length, 2);
});

test('a place without an id that is free is told of, once', (t) => {
  const lines: string[] = [];
  const succession = new Succession({
    groups: [{ role: 'leader', configurations: [{ ...FOUNDERS, next_id: 65_536 }], appliedAt: () => 0 }],
    joiners: () => [joiner],
    logger: { info: (line) => t.fail(line), warn: (line) => lines.push(line) },
    change: () => Promise.reject(new Error('there is nothing to change')),
  });
  for (let now_ms = 0; now_ms < 3_000; now_ms += 20) succession.tick(now_ms);
  t.is(lines.length, 1);
  t.regex(lines[0] ?? '', /^group 0: replica 3 came back on an empty disk so often/);
});
