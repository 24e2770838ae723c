import test from 'ava';
import fc from 'fast-check';
import { encodeAddr } from '../../src/ts/protocol/address.js';
import { crc32, hashInt32, hashUint64, itemHash, murmurHash64A } from '../../src/ts/protocol/hash.js';

test('MurmurHash64A has the values of the original', (t) => {
  t.is(hashInt32(1, 0n), 17666132492028397833n);
  t.is(hashUint64(123n, 0n), 17212048185146527427n);
});

test('MurmurHash64A of a text gives the Paxos group of a lock key', (t) => {
  const groupOf = (key: string): bigint => (murmurHash64A(Buffer.from(key), 0xc70f6907n) >> 32n) % 100n;
  t.is(groupOf('1000-1-1-0'), 34n);
  t.is(groupOf('__scheduler__.__master__'), 4n);
});

test('hashing a number is hashing its bytes, lowest first', (t) => {
  fc.assert(
    fc.property(fc.integer(), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (value, seed) => {
      const bytes = Buffer.alloc(4);
      bytes.writeInt32LE(value);
      return hashInt32(value, seed) === murmurHash64A(bytes, seed);
    }),
  );
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (value) => {
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64LE(value);
      return hashUint64(value, 7n) === murmurHash64A(bytes, 7n);
    }),
  );
  t.pass();
});

test('the hash of a view does not depend on what surrounds it', (t) => {
  const whole = Buffer.from('xx1000-1-1-0yy');
  t.is(murmurHash64A(whole.subarray(2, 12), 5n), murmurHash64A(Buffer.from('1000-1-1-0'), 5n));
});

test('CRC-32 is that of zlib', (t) => {
  t.is(crc32(Buffer.from('123456789')), 0xcbf43926);
  t.is(crc32(Buffer.from('6789'), crc32(Buffer.from('12345'))), 0xcbf43926);
});

test('the hash of an item has the value of the original', (t) => {
  t.is(itemHash(Buffer.from('hello'), 123n, 1700000000123), 482960090n);
});

test('an address becomes the number of the original', (t) => {
  t.is(encodeAddr({ ip: '127.0.0.1', port: 8001, paxos_port: 0 }), 72058140023128064n);
  t.is(encodeAddr({ ip: '127.0.0.1', port: 8001 }), 72058140023128064n);
  t.is(encodeAddr({ ip: '255.255.255.255', port: 65535, paxos_port: 65535 }), 2n ** 64n - 1n);
});

test('an address that is not dotted IPv4 has no number', (t) => {
  for (const ip of ['localhost', '::1', '', '1.2.3', '1.2.3.256']) {
    t.throws(() => encodeAddr({ ip, port: 1 }), { code: 'CONFIG' });
  }
});
