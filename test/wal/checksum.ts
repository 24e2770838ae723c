/** CRC-32C bit by bit: slow, and written apart from the one that it checks. */
export function crc32cBitwise(bytes: Uint8Array, crc = 0): number {
  let state = ~crc;
  for (const byte of bytes) {
    state ^= byte;
    for (let bit = 0; bit < 8; bit++) state = (state & 1) === 1 ? (state >>> 1) ^ 0x82f63b78 : state >>> 1;
  }
  return ~state >>> 0;
}
