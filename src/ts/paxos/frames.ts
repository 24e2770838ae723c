/**
 * Frames on a replica connection: u32 length, u32 CRC-32 of the payload, payload (little-endian). A receiver collects
 * chunks until a frame is whole, so that a large frame is copied once and not once for each chunk.
 */
import { crc32 } from 'node:zlib';
import { PhxError } from '../errors.js';

const HEAD_BYTES = 8;

/** Largest payload that is accepted; above any value with its head. */
export const FRAME_BYTES_MAX = 128 * 1024 * 1024;

/** The head for a payload given as parts. */
export function frameHead(parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  let checksum = 0;
  for (const part of parts) {
    length += part.length;
    checksum = crc32(part, checksum);
  }
  const head = new Uint8Array(HEAD_BYTES);
  const view = new DataView(head.buffer);
  view.setUint32(0, length, true);
  view.setUint32(4, checksum, true);
  return head;
}

/** Turns chunks into payloads. */
export class FrameReader {
  #chunks: Buffer[] = [];
  #buffered = 0;
  #needed = HEAD_BYTES;
  readonly #bytes_max: number;

  constructor(bytes_max = FRAME_BYTES_MAX) {
    this.#bytes_max = bytes_max;
  }

  /** Payloads completed by `chunk`. Throws PROTOBUF_PARSE on a wrong length or checksum: the connection is of no more use. */
  *push(chunk: Buffer): Generator<Buffer> {
    this.#chunks.push(chunk);
    this.#buffered += chunk.length;
    while (this.#buffered >= this.#needed) {
      const bytes = this.#gather();
      const length = bytes.readUInt32LE(0);
      if (length > this.#bytes_max) throw new PhxError('PROTOBUF_PARSE', `frame of ${length} bytes exceeds the limit`);
      const end = HEAD_BYTES + length;
      if (bytes.length < end) {
        this.#needed = end;
        return;
      }
      const payload = bytes.subarray(HEAD_BYTES, end);
      if (crc32(payload) !== bytes.readUInt32LE(4))
        throw new PhxError('PROTOBUF_PARSE', 'frame checksum does not match');
      this.#chunks = end < bytes.length ? [bytes.subarray(end)] : [];
      this.#buffered = bytes.length - end;
      this.#needed = HEAD_BYTES;
      yield payload;
    }
  }

  #gather(): Buffer {
    const [first] = this.#chunks;
    const bytes = this.#chunks.length === 1 && first !== undefined ? first : Buffer.concat(this.#chunks);
    this.#chunks = [bytes];
    return bytes;
  }
}
