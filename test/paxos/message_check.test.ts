import test from 'ava';
import type { PeerMessage } from '../../src/ts/paxos/codec.js';
import { NO_BALLOT, nextBallot } from '../../src/ts/paxos/core/ballot.js';
import type { Message } from '../../src/ts/paxos/core/types.js';
import { batchValue, noopValue } from '../../src/ts/paxos/core/value.js';
import { problemOf } from '../../src/ts/paxos/message_check.js';
import { PART_BYTES } from '../../src/ts/paxos/snapshot_messages.js';

const ballot = nextBallot(NO_BALLOT, 2);
const value = batchValue(ballot, [[Buffer.from('abc')]]);

function accept(bytes: Uint8Array): Message {
  return { type: 'accept', ballot, instance: 1, chosen_through: 0, value: bytes };
}

function heartbeat(lease_ms: number, sent_at_ms = 5): Message {
  return { type: 'heartbeat', ballot, chosen_through: 0, applied_through: 0, sent_at_ms, lease_ms };
}

function learn(bytes: Uint8Array): Message {
  return { type: 'learn', entries: [{ instance: 1, ballot, value: bytes }] };
}

test('what honest peers send passes', (t) => {
  const unknown = Uint8Array.from(value);
  unknown[1] = 9;
  for (const message of [accept(value), accept(noopValue(ballot)), accept(unknown), heartbeat(400), learn(value)]) {
    t.is(problemOf(2, message), null);
  }
  t.is(problemOf(2, { type: 'prepare', ballot }), null);
});

test("another replica's ballot is refused", (t) => {
  for (const message of [accept(value), heartbeat(400), { type: 'prepare', ballot }] satisfies Message[]) {
    t.is(problemOf(3, message), 'a ballot of replica 2');
  }
});

test('values that cannot be applied are refused, and never reach the disk', (t) => {
  const count = Uint8Array.from(value);
  count[4] = 200;
  const length = Uint8Array.from(value);
  length[16] = 4;
  for (const bytes of [new Uint8Array(0), value.subarray(0, 15), value.subarray(0, value.length - 1), count, length]) {
    for (const message of [accept(bytes), learn(bytes)]) {
      t.regex(problemOf(2, message) ?? '', /malformed value/);
    }
  }
});

test('parts of a checkpoint are bounded, and checksums have 32 bits', (t) => {
  const part = (bytes: number): PeerMessage => {
    const id = { instance: 1, checksum: 2 };
    return { type: 'snapshot_part', id, offset: 0, checksum: 0, bytes: new Uint8Array(bytes) };
  };
  t.is(problemOf(2, part(1)), null);
  t.is(problemOf(2, part(PART_BYTES)), null);
  for (const bytes of [0, PART_BYTES + 1]) t.is(problemOf(2, part(bytes)), `a part of ${bytes} bytes`);
  const sizes = { configurations_bytes: 1, state_bytes: 1, retention_bytes: 1 };
  const head = { instance: 5, checksum: 1, chain: 1, first_needed: 3, state_checksum: 1, ...sizes };
  t.is(problemOf(2, { type: 'snapshot_offer', head }), null);
  for (const field of ['checksum', 'chain', 'state_checksum']) {
    t.regex(problemOf(2, { type: 'snapshot_offer', head: { ...head, [field]: 2 ** 32 } }) ?? '', /32 bits/);
  }
});

test('times that are none are refused', (t) => {
  for (const message of [heartbeat(Number.POSITIVE_INFINITY), heartbeat(Number.NaN), heartbeat(0), heartbeat(-1)]) {
    t.regex(problemOf(2, message) ?? '', /a lease of/);
  }
  t.is(problemOf(2, heartbeat(400, Number.NaN)), 'no time of sending');
});
