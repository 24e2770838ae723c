import test from 'ava';
import fc from 'fast-check';
import { CHECKPOINT_BYTES_MAX } from '../../src/ts/paxos/checkpoint.js';
import {
  decodeSnapshotMessage,
  encodeSnapshotMessage,
  type SnapshotMessage,
} from '../../src/ts/paxos/snapshot_messages.js';

const u53 = fc.maxSafeNat();
const u32 = fc.nat(2 ** 32 - 1);
const id = fc.record({ instance: u53, checksum: u32 });
const size = fc.nat(Math.floor(CHECKPOINT_BYTES_MAX / 3));
const head = fc
  .record({
    ...{ instance: u53.map((instance) => instance + 1), checksum: u32, chain: u32, back: fc.nat(1_000) },
    ...{ configurations_bytes: size, state_bytes: size, retention_bytes: size, state_checksum: u32 },
  })
  .filter(({ instance }) => Number.isSafeInteger(instance))
  .map(({ back, ...rest }) => ({ ...rest, first_needed: Math.max(1, rest.instance + 1 - back) }))
  .filter(({ first_needed }) => Number.isSafeInteger(first_needed));
const message: fc.Arbitrary<SnapshotMessage> = fc.oneof(
  head.map((offered) => ({ type: 'snapshot_offer' as const, head: offered })),
  fc.record({ type: fc.constant('snapshot_fetch' as const), id, offset: u53 }),
  fc.record({ type: fc.constant('snapshot_part' as const), id, offset: u53, checksum: u32, bytes: fc.uint8Array() }),
);

test('a message comes back as it was', (t) => {
  fc.assert(
    fc.property(message, (sent) => {
      t.deepEqual(decodeSnapshotMessage(Buffer.concat(encodeSnapshotMessage(sent))), withBuffers(sent));
    }),
  );
});

/** A decoded part is a view of the bytes it came in. */
function withBuffers(sent: SnapshotMessage): SnapshotMessage {
  return sent.type === 'snapshot_part' ? { ...sent, bytes: Buffer.from(sent.bytes) } : sent;
}

test('bytes that are no message are refused', (t) => {
  const fetch = Buffer.concat(
    encodeSnapshotMessage({ type: 'snapshot_fetch', id: { instance: 1, checksum: 2 }, offset: 3 }),
  );
  const wide = Buffer.from(fetch);
  wide.writeUInt8(0x20, 7);
  const unknown = Buffer.from(fetch);
  unknown.writeUInt8(3, 0);
  for (const bytes of [
    Buffer.alloc(0),
    fetch.subarray(1),
    fetch.subarray(0, 24),
    Buffer.alloc(26, fetch),
    wide,
    unknown,
  ]) {
    t.throws(() => decodeSnapshotMessage(bytes), { code: 'PROTOBUF_PARSE' });
  }
});

test('an offer of what cannot be is refused', (t) => {
  const offered = {
    ...{ instance: 10, checksum: 1, chain: 1, first_needed: 11, state_checksum: 1 },
    ...{ configurations_bytes: 1, state_bytes: 1, retention_bytes: 1 },
  };
  const decode = (changes: object): SnapshotMessage =>
    decodeSnapshotMessage(
      Buffer.concat(encodeSnapshotMessage({ type: 'snapshot_offer', head: { ...offered, ...changes } })),
    );
  t.is(decode({}).type, 'snapshot_offer');
  for (const changes of [
    { instance: 0, first_needed: 1 },
    { first_needed: 0 },
    { first_needed: 12 },
    { state_bytes: CHECKPOINT_BYTES_MAX },
  ]) {
    t.throws(() => decode(changes), { code: 'PROTOBUF_PARSE' });
  }
});
