import test from 'ava';
import type { GroupMessage } from '../../src/ts/paxos/codec.js';
import { NO_BALLOT, nextBallot, REPLICA_ID_MAX } from '../../src/ts/paxos/core/ballot.js';
import type { Configuration } from '../../src/ts/paxos/core/members.js';
import type { Message } from '../../src/ts/paxos/core/types.js';
import { checkPlaces, freeIdAt, NO_ID, PLACES_MAX, placeOf } from '../../src/ts/paxos/places.js';
import { type Sender, senderOf } from '../../src/ts/paxos/senders.js';
import { FOUNDERS } from './beginning.js';
import { reportOf } from './sockets.js';

const BIRTH = reportOf(7).birth;
const OTHER = reportOf(8).birth;
const NEWCOMER = 3 + PLACES_MAX;

/** The founders with a newcomer in the third place. */
const REPLACED: Configuration = {
  chosen_at: 5,
  from: 69,
  next_id: NEWCOMER + 1,
  members: FOUNDERS.members.map((member) => (member.id === 3 ? { ...member, id: NEWCOMER, birth: BIRTH } : member)),
};

const fetch: Message = { type: 'fetch', from: 1, through: 2 };
const heartbeat: Message = {
  type: 'heartbeat',
  ballot: nextBallot(NO_BALLOT, 2),
  chosen_through: 0,
  applied_through: 0,
  sent_at_ms: 1,
  lease_ms: 1,
};

function said(from: number, to: number, message: Message = fetch): GroupMessage {
  return { group: 0, from, to, message };
}

function heard(configuration: Configuration, sender: Sender, message: GroupMessage, self = 1): number | null {
  return senderOf({ self, configurations: [FOUNDERS, configuration] }, sender, message);
}

test('the ids of a place are its own, ascend, and end', (t) => {
  for (const place of [1, 3, PLACES_MAX]) {
    let configuration = FOUNDERS;
    for (let life = 0; life < 5; life += 1) {
      const id = freeIdAt(place, configuration) ?? 0;
      t.true(id >= configuration.next_id);
      t.is(placeOf(id), place);
      configuration = { ...configuration, next_id: id + 1 };
    }
  }
  t.is(freeIdAt(1, { ...FOUNDERS, next_id: REPLICA_ID_MAX + 1 }), null);
  for (const { id } of FOUNDERS.members) t.is(placeOf(id), id, 'a founder has the id of its place');
  t.throws(() => checkPlaces(PLACES_MAX + 1), { code: 'CONFIG' });
});

test('a founder counts under the id of its place, its successor under its own', (t) => {
  const founder = { place: 3, birth: OTHER, founder: true };
  const successor = { place: 3, birth: BIRTH, founder: false };
  t.is(heard(FOUNDERS, founder, said(3, 1)), 3);
  t.is(heard(REPLACED, successor, said(NEWCOMER, 1)), NEWCOMER);
  t.is(heard(FOUNDERS, successor, said(3, 1)), null, 'not under that of its predecessor');
  t.is(heard(REPLACED, founder, said(NEWCOMER, 1)), null);
  t.is(heard(REPLACED, { ...successor, place: 2 }, said(NEWCOMER, 1)), null, 'nor from another place');
});

test('a newcomer of whom nothing was heard yet counts under the id that it says', (t) => {
  const successor = { place: 3, birth: BIRTH, founder: false };
  t.is(heard(FOUNDERS, successor, said(NEWCOMER, 1)), NEWCOMER);
});

test('without an id a replica may fetch and say how far it is, under the id that its birth has', (t) => {
  const learner = { place: 3, birth: BIRTH, founder: false };
  t.is(heard(REPLACED, learner, said(NO_ID, 1)), NEWCOMER);
  t.is(heard(FOUNDERS, learner, said(NO_ID, 1)), null, 'nobody asked for it yet');
  const reply = { type: 'heartbeat_reply', ballot: NO_BALLOT, sent_at_ms: 1, instance: 0, chain: 0 } as const;
  t.is(heard(REPLACED, learner, said(NO_ID, 1, { ...reply, granted: false })), NEWCOMER);
  t.is(heard(REPLACED, learner, said(NO_ID, 1, { ...reply, granted: true })), null);
  t.is(heard(REPLACED, learner, said(NO_ID, 1, { type: 'accepted', ballot: NO_BALLOT, instances: [1] })), null);
});

test('what was meant for another member is not heard', (t) => {
  const leader = { place: 2, birth: OTHER, founder: true };
  t.is(heard(REPLACED, leader, said(2, 3, { type: 'removed' }), NEWCOMER), null);
  t.is(heard(REPLACED, leader, said(2, NEWCOMER, { type: 'removed' }), NEWCOMER), 2);
  t.is(heard(REPLACED, leader, said(2, 3, { type: 'removed' }), NO_ID), null);
  t.is(heard(REPLACED, leader, said(2, 3, heartbeat), NO_ID), 2, 'who leads a learner may hear anyhow');
});

test('who knows only the predecessor of a member is heard when it asks for a vote or for what is chosen, and for nothing else', (t) => {
  const founder = { place: 1, birth: OTHER, founder: true };
  const ask = { type: 'pre_vote', round: 1, chosen_through: 0 } as const;
  t.is(heard(REPLACED, founder, said(1, 3, ask), NEWCOMER), 1);
  t.is(heard(REPLACED, founder, said(1, 3, { type: 'fetch', from: 1, through: 9 }), NEWCOMER), 1);
  t.is(heard(REPLACED, founder, said(1, 3, { type: 'prepare', ballot: nextBallot(NO_BALLOT, 1) }), NEWCOMER), null);
  t.is(heard(REPLACED, founder, said(1, 2, ask), NEWCOMER), null, 'not what is meant for another place');
});
