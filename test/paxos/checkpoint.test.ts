import test from 'ava';
import fc from 'fast-check';
import {
  CHUNK_BYTES,
  type CheckpointRecord,
  checksumOf,
  decodeRecord,
  encodeRecord,
  payloadBytes,
  payloadOf,
  sameCheckpoint,
  shadowGroupOf,
} from '../../src/ts/paxos/checkpoint.js';

const RECORD: CheckpointRecord = {
  instance: 2 ** 40 + 5,
  chain: 0xdeadbeef,
  first_needed: 2 ** 40 + 1,
  first_retained: 2 ** 33,
  own_through: 17,
  first_chunk: 9,
  last_chunk: 10,
  configurations_bytes: 10,
  state_bytes: CHUNK_BYTES,
  retention_bytes: 7,
  state_checksum: 0xffff_ffff,
  checksum: 1,
};

test('a record comes back as it was', (t) => {
  t.deepEqual(decodeRecord(encodeRecord(RECORD)), RECORD);
});

test('a record with one wrong bit is refused, whichever it is', (t) => {
  const bytes = encodeRecord(RECORD);
  for (let bit = 0; bit < bytes.length * 8; bit += 1) {
    const damaged = Uint8Array.from(bytes);
    damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    const newer = bit < 16 && bit !== 0;
    t.throws(() => decodeRecord(damaged), { code: newer ? 'LOG_FORMAT' : 'LOG_CORRUPT' });
  }
  t.throws(() => decodeRecord(bytes.subarray(0, -1)), { code: 'LOG_CORRUPT' });
  t.throws(() => decodeRecord(new Uint8Array(0)), { code: 'LOG_CORRUPT' });
});

test('a record that contradicts itself is refused', (t) => {
  for (const change of [
    { first_retained: RECORD.first_needed + 1 },
    { first_needed: RECORD.instance + 2, first_retained: 1 },
    { own_through: RECORD.instance + 1 },
    { last_chunk: 11 },
    { state_bytes: 2 ** 31 },
  ]) {
    const error = t.throws(() => decodeRecord(encodeRecord({ ...RECORD, ...change })), { code: 'LOG_CORRUPT' });
    t.regex(error.message, /contradicts itself/);
  }
});

test('a payload is cut into its sections, and any wrong byte is found', async (t) => {
  const sections = ['members', 'state of the queues', ''].map((text) => Buffer.from(text));
  const [configurations, state, retention] = sections;
  const bytes = Buffer.concat(sections);
  const head = {
    ...RECORD,
    configurations_bytes: configurations?.length ?? 0,
    state_bytes: state?.length ?? 0,
    retention_bytes: 0,
    state_checksum: await checksumOf([state ?? bytes]),
    checksum: await checksumOf(sections),
  };
  t.is(payloadBytes(head), bytes.length);
  t.deepEqual(await payloadOf(head, bytes), { configurations, state, retention });
  for (let at = 0; at < bytes.length; at += 1) {
    const damaged = Buffer.from(bytes);
    damaged[at] = (damaged[at] ?? 0) ^ 1;
    await t.throwsAsync(payloadOf(head, damaged), { code: 'LOG_CORRUPT' });
  }
  await t.throwsAsync(payloadOf(head, bytes.subarray(1)), { code: 'LOG_CORRUPT' });
  await t.throwsAsync(payloadOf({ ...head, state_checksum: 0 }, bytes), { code: 'LOG_CORRUPT' });
});

test('a checksum does not depend on how the bytes are cut', async (t) => {
  const parts = fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(parts, async (cut) => (await checksumOf(cut)) === (await checksumOf([Buffer.concat(cut)]))),
  );
  const large = Buffer.alloc(9 * 1024 * 1024 + 1, 'large');
  t.is(await checksumOf([large.subarray(0, 5_000_000), large.subarray(5_000_000)]), await checksumOf([large]));
});

test('instance and checksum tell checkpoints apart', (t) => {
  t.true(sameCheckpoint(RECORD, { instance: RECORD.instance, checksum: 1 }));
  t.false(sameCheckpoint(RECORD, { instance: RECORD.instance, checksum: 2 }));
  t.false(sameCheckpoint(RECORD, { instance: 1, checksum: 1 }));
});

test('shadow groups lie above all others, and below the reserved ones', (t) => {
  t.is(shadowGroupOf(0), 2 ** 31);
  t.is(shadowGroupOf(2 ** 31 - 3), 0xffff_fffd);
  t.throws(() => shadowGroupOf(2 ** 31 - 2));
});
