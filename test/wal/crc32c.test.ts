import test from 'ava';
import fc from 'fast-check';
import { crc32c, crc32cOfView, crc32cU32 } from '../../src/ts/wal/crc32c.js';
import { crc32cBitwise } from './checksum.js';

test('the published check value and the vectors of RFC 3720', (t) => {
  t.is(crc32c(Buffer.from('123456789')), 0xe3069283);
  t.is(crc32c(new Uint8Array(32)), 0x8a9136aa);
  t.is(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
  t.is(crc32c(Uint8Array.from({ length: 32 }, (_, byte) => byte)), 0x46dd794e);
});

test('any part of any bytes, in one step or two, as bit by bit', (t) => {
  const property = fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(300), fc.nat(300), (bytes, one, other) => {
    const [start, end] = [Math.min(one, other, bytes.length), Math.min(Math.max(one, other), bytes.length)];
    const expected = crc32cBitwise(bytes.subarray(start, end));
    const view = new DataView(bytes.buffer, bytes.byteOffset + start, end - start);
    if (crc32cOfView(view, 0, end - start) !== expected) return false;
    const middle = start + Math.floor((end - start) / 3);
    return (
      crc32c(bytes, start, end) === expected && crc32c(bytes, middle, end, crc32c(bytes, start, middle)) === expected
    );
  });
  t.notThrows(() => fc.assert(property));
});

test('a number continues a checksum as its four bytes do', (t) => {
  const property = fc.property(fc.nat(0xffff_ffff), fc.nat(0xffff_ffff), (value, crc) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    return crc32cU32(value, crc) === crc32cBitwise(bytes, crc);
  });
  t.notThrows(() => fc.assert(property));
});
