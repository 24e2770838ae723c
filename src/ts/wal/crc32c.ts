/** CRC-32C (Castagnoli), slicing by 8: eight bytes cost eight table look-ups that do not wait for each other. */

const POLYNOMIAL_REFLECTED = 0x82f63b78;
const SLICES = 8;
/** Fewer bytes are not worth a view. */
const VIEW_BYTES_MIN = 64;

const table = makeTable();

function makeTable(): Int32Array {
  const slices = new Int32Array(SLICES * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL_REFLECTED : crc >>> 1;
    slices[byte] = crc;
  }
  for (let slice = 1; slice < SLICES; slice++) {
    for (let byte = 0; byte < 256; byte++) {
      const previous = slices[(slice - 1) * 256 + byte] ?? 0;
      slices[slice * 256 + byte] = (previous >>> 8) ^ (slices[previous & 0xff] ?? 0);
    }
  }
  return slices;
}

/**
 * CRC-32C of bytes[start, end), continuing from `crc`: crc32c(ab) = crc32c(b, …, crc32c(a)).
 *
 * @returns an unsigned 32-bit number
 */
export function crc32c(bytes: Uint8Array, start = 0, end = bytes.length, crc = 0): number {
  if (end - start >= VIEW_BYTES_MIN) {
    return crc32cOfView(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), start, end, crc);
  }
  let state = ~crc;
  for (let at = start; at < end; at++) state = (state >>> 8) ^ (table[(state ^ (bytes[at] ?? 0)) & 0xff] ?? 0);
  return ~state >>> 0;
}

/** The same for who has a view already: to make one costs as much as the checksum of some dozen bytes. */
export function crc32cOfView(view: DataView, start: number, end: number, crc = 0): number {
  let state = ~crc;
  let at = start;
  for (; at + 8 <= end; at += 8) {
    const low = view.getInt32(at, true) ^ state;
    const high = view.getInt32(at + 4, true);
    state =
      (table[1792 + (low & 0xff)] ?? 0) ^
      (table[1536 + ((low >>> 8) & 0xff)] ?? 0) ^
      (table[1280 + ((low >>> 16) & 0xff)] ?? 0) ^
      (table[1024 + (low >>> 24)] ?? 0) ^
      (table[768 + (high & 0xff)] ?? 0) ^
      (table[512 + ((high >>> 8) & 0xff)] ?? 0) ^
      (table[256 + ((high >>> 16) & 0xff)] ?? 0) ^
      (table[high >>> 24] ?? 0);
  }
  for (; at < end; at++) state = (state >>> 8) ^ (table[(state ^ view.getUint8(at)) & 0xff] ?? 0);
  return ~state >>> 0;
}

/** CRC-32C continued by the four bytes of `value`, little-endian. */
export function crc32cU32(value: number, crc: number): number {
  const low = value ^ ~crc;
  const state =
    (table[768 + (low & 0xff)] ?? 0) ^
    (table[512 + ((low >>> 8) & 0xff)] ?? 0) ^
    (table[256 + ((low >>> 16) & 0xff)] ?? 0) ^
    (table[low >>> 24] ?? 0);
  return ~state >>> 0;
}
