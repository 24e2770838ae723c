import test from 'ava';
import { CommandKind, decodeCommand, encodeAdd, encodeCursors } from '../../src/ts/store/command.js';

test('ADD keeps the request bytes as a part of their own', (t) => {
  const body = Buffer.from('08e807', 'hex');
  const parts = encodeAdd(1_700_000_000_123, body);
  t.is(parts[1], body);
  const bytes = Buffer.concat(parts);
  t.is(bytes.toString('hex'), '01017b68e5cf8b01000008e807');
  const command = decodeCommand(bytes);
  if (command.kind !== CommandKind.add) return t.fail('not an ADD');
  t.is(command.timestamp_ms, 1_700_000_000_123);
  t.deepEqual(Buffer.from(command.body), body);
  t.is(command.body_offset, 10);
});

test('CURSORS comes back as it went in', (t) => {
  const updates = [
    { queue_id: 0, consumer_group: 1, prev: 240 },
    { queue_id: 1999, consumer_group: 64, prev: 2 ** 52 },
  ];
  const bytes = Buffer.concat(encodeCursors(updates));
  t.is(bytes.length, 6 + 26);
  t.deepEqual(decodeCommand(bytes), { kind: CommandKind.cursors, updates });
});

test('an unknown kind, an unknown version or a damaged command stops the replica', (t) => {
  for (const hex of ['0901', '0102aabb', '', '01', '0101', '020101000000', '0201010000000000']) {
    t.throws(() => decodeCommand(Buffer.from(hex, 'hex')), { name: 'AssertionError' }, hex);
  }
});
