import { crc32 as zlibCrc32 } from 'node:zlib';

const multiplier = 0xc6a4_a793_5bd1_e995n;
const shift = 47n;

const scratch = new DataView(new ArrayBuffer(8));
const u32_scratch = Buffer.from(scratch.buffer, 0, 4);
const u64_scratch = Buffer.from(scratch.buffer, 0, 8);

/** MurmurHash64A with a 64-bit seed. */
export function murmurHash64A(bytes: Uint8Array, seed: bigint): bigint {
  const { length } = bytes;
  const view = new DataView(bytes.buffer, bytes.byteOffset, length);
  let hash = u64(seed ^ u64(BigInt(length) * multiplier));
  const whole = length - (length % 8);
  for (let at = 0; at < whole; at += 8) hash = mixBlock(hash, view.getBigUint64(at, true));
  if (whole < length) {
    let tail = 0n;
    for (let at = length - 1; at >= whole; at -= 1) tail = (tail << 8n) | BigInt(view.getUint8(at));
    hash = u64((hash ^ tail) * multiplier);
  }
  return finish(hash);
}

/** MurmurHash64A over the four bytes of an int32, lowest first. */
export function hashInt32(value: number, seed: bigint): bigint {
  const hash = u64(seed ^ u64(4n * multiplier));
  return finish(u64((hash ^ BigInt(value >>> 0)) * multiplier));
}

/** MurmurHash64A over the eight bytes of a uint64, lowest first. */
export function hashUint64(value: bigint, seed: bigint): bigint {
  return finish(mixBlock(u64(seed ^ u64(8n * multiplier)), value));
}

function mixBlock(hash: bigint, block: bigint): bigint {
  let mixed = u64(block * multiplier);
  mixed ^= mixed >> shift;
  return u64((hash ^ u64(mixed * multiplier)) * multiplier);
}

function finish(hash: bigint): bigint {
  const mixed = u64((hash ^ (hash >> shift)) * multiplier);
  return mixed ^ (mixed >> shift);
}

function u64(value: bigint): bigint {
  return BigInt.asUintN(64, value);
}

/** CRC-32 as in zlib; `start` is the CRC of what comes before. */
export function crc32(bytes: Uint8Array, start = 0): number {
  return zlibCrc32(bytes, start);
}

/** CRC-32 continued over the four bytes of an int32, lowest first. */
export function crc32Int32(value: number, start: number): number {
  scratch.setInt32(0, value, true);
  return zlibCrc32(u32_scratch, start);
}

/** CRC-32 continued over the eight bytes of a uint64, lowest first. */
export function crc32Uint64(value: bigint, start: number): number {
  scratch.setBigUint64(0, value, true);
  return zlibCrc32(u64_scratch, start);
}

/** The field `hash` of an item's meta: CRC-32 over buffer, uin and the time in milliseconds. Nothing depends on it. */
export function itemHash(buffer: Uint8Array, uin: bigint, now_ms: number): bigint {
  return BigInt(crc32Uint64(BigInt(now_ms), crc32Uint64(uin, crc32(buffer))));
}
