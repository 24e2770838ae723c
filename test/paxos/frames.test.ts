import test from 'ava';
import fc from 'fast-check';
import { FRAME_BYTES_MAX, FrameReader, frameHead } from '../../src/ts/paxos/frames.js';

function framed(...parts: Uint8Array[]): Buffer {
  return Buffer.concat([frameHead(parts), ...parts]);
}

test('frames survive any splitting into chunks', (t) => {
  const payloads = fc.array(fc.uint8Array({ maxLength: 300 }), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(payloads, fc.array(fc.integer({ min: 1, max: 100 }), { minLength: 1 }), (sent, sizes) => {
      const bytes = Buffer.concat(sent.map((payload) => framed(payload)));
      const reader = new FrameReader();
      const received: string[] = [];
      for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
        const size = sizes[turn % sizes.length] ?? 1;
        for (const payload of reader.push(bytes.subarray(at, at + size))) received.push(payload.toString('hex'));
        at += size;
      }
      t.deepEqual(
        received,
        sent.map((payload) => Buffer.from(payload).toString('hex')),
      );
    }),
  );
});

test('a payload may be given in parts', (t) => {
  const bytes = framed(Buffer.from('ab'), Buffer.from(''), Buffer.from('cde'));
  t.deepEqual(
    [...new FrameReader().push(bytes)].map((payload) => payload.toString()),
    ['abcde'],
  );
});

test('a flipped bit anywhere in the payload is noticed', (t) => {
  const bytes = framed(Buffer.from('payload'));
  for (let at = 8; at < bytes.length; at += 1) {
    const damaged = Buffer.from(bytes);
    damaged.writeUInt8(damaged.readUInt8(at) ^ 0x10, at);
    t.throws(() => [...new FrameReader().push(damaged)], { message: /checksum/ });
  }
});

test('a length beyond the limit is refused before anything is collected', (t) => {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(FRAME_BYTES_MAX + 1);
  t.throws(() => [...new FrameReader().push(head)], { message: /exceeds the limit/ });
});
