import test from 'ava';
import fc from 'fast-check';
import { PhxError } from '../../src/ts/errors.js';
import { decodeMessages, encodeMessage, type GroupMessage, type PeerMessage } from '../../src/ts/paxos/codec.js';
import { ballotFrom } from '../../src/ts/paxos/core/ballot.js';

const number = fc.nat({ max: Number.MAX_SAFE_INTEGER });
const ballot = number.map(ballotFrom);
const time_ms = fc.double({ min: 0, max: 1e12, noNaN: true });
const value = fc.uint8Array({ maxLength: 200 });
const entries = fc.array(fc.record({ instance: number, ballot, value }), { maxLength: 5 });
const type = fc.constant;

const checkpoint = fc.record({ instance: number, checksum: number });
const head = fc
  .record({
    ...{ instance: number, checksum: number, chain: number, first_needed: number, state_checksum: number },
    ...{ configurations_bytes: fc.nat(2 ** 20), state_bytes: fc.nat(2 ** 20), retention_bytes: fc.nat(2 ** 20) },
  })
  .map((any) => ({ ...any, instance: 1 + any.instance, first_needed: 1 + (any.first_needed % (any.instance + 2)) }))
  .filter(({ instance }) => Number.isSafeInteger(instance));

const message: fc.Arbitrary<PeerMessage> = fc.oneof(
  fc.record({ type: type('pre_vote' as const), round: number, chosen_through: number }),
  fc.record({ type: type('pre_vote_reply' as const), round: number, granted: fc.boolean(), promised: ballot }),
  fc.record({ type: fc.constantFrom('prepare' as const, 'release' as const, 'take_over' as const), ballot }),
  fc.record({ type: type('promise' as const), ballot, chosen_through: number, entries }),
  fc.record({ type: type('accept' as const), ballot, instance: number, chosen_through: number, value }),
  fc.record({ type: type('accepted' as const), ballot, instances: fc.array(number, { maxLength: 20 }) }),
  fc.record({ type: type('reject' as const), ballot, promised: ballot }),
  fc.record({
    type: type('heartbeat' as const),
    ballot,
    chosen_through: number,
    applied_through: number,
    sent_at_ms: time_ms,
    lease_ms: time_ms,
  }),
  fc.record({
    type: type('heartbeat_reply' as const),
    ballot,
    sent_at_ms: time_ms,
    granted: fc.boolean(),
    instance: number,
    chain: number,
  }),
  fc.record({ type: type('removed' as const) }),
  fc.record({ type: type('diverged' as const), instance: number, chain: number }),
  fc.record({ type: type('fetch' as const), from: number, through: number }),
  fc.record({ type: type('learn' as const), entries }),
  fc.record({ type: type('snapshot_offer' as const), head }),
  fc.record({ type: type('snapshot_fetch' as const), id: checkpoint, offset: number }),
  fc.record({ type: type('snapshot_part' as const), id: checkpoint, offset: number, checksum: number, bytes: value }),
);
const id = fc.nat({ max: 2 ** 16 - 1 });
const groupMessage: fc.Arbitrary<GroupMessage> = fc.record({
  group: fc.nat({ max: 2 ** 32 - 1 }),
  from: id,
  to: id,
  message,
});

/** Decoded messages hold views of their frame: compared as plain arrays of bytes. */
function plain(part: unknown): unknown {
  if (part instanceof Uint8Array) return [...part];
  if (Array.isArray(part)) return part.map(plain);
  if (typeof part !== 'object' || part === null) return part;
  return Object.fromEntries(Object.entries(part).map(([name, field]) => [name, plain(field)]));
}

function frameOf(messages: readonly GroupMessage[]): Buffer {
  return Buffer.concat(messages.flatMap((one) => encodeMessage(one)));
}

test('all messages come back as they were', (t) => {
  fc.assert(
    fc.property(fc.array(groupMessage, { maxLength: 8 }), (messages) => {
      t.deepEqual(plain([...decodeMessages(frameOf(messages))]), plain(messages));
    }),
  );
});

test('a frame that was cut is refused, wherever it was cut', (t) => {
  fc.assert(
    fc.property(groupMessage, fc.nat(), (one, where) => {
      const frame = frameOf([one]);
      const cut = frame.subarray(0, 1 + (where % (frame.length - 1)));
      const error = t.throws(() => [...decodeMessages(cut)], { instanceOf: PhxError });
      t.is(error?.code, 'PROTOBUF_PARSE');
    }),
  );
});

test('bytes that are no messages are refused, never taken for something else than an error', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 100 }), (bytes) => {
      try {
        for (const { message: decoded } of decodeMessages(bytes)) t.is(typeof decoded.type, 'string');
      } catch (error) {
        t.true(error instanceof PhxError && error.code === 'PROTOBUF_PARSE', String(error));
      }
    }),
    { numRuns: 1_000 },
  );
});
