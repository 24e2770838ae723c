/**
 * The bodies of the store's replies. A GetResponse is framed by hand: its items are copied once, from the stored bytes
 * into the reply, with only their cursor_id replaced.
 *
 *   AddResponse  cursor_id 1 varint | redirect_addr 101
 *   GetResponse  items 1 repeated   | prev_cursor_id 11 | next_cursor_id 12 | redirect_addr 101
 *
 * Every reply has a redirect_addr, empty if there is nowhere to go, as those of the original have.
 */
import { encode } from '../protocol/messages.js';
import { type CursorPair, cursorToWire } from './cursors.js';
import type { FoundItem } from './read_queue.js';
import type { StoreAddress } from './store_view.js';

const item_tag = 0x0a;
/** Field 101 of a QItem as a varint: its tag takes two bytes. */
const cursor_tag = [0xa8, 0x06] as const;
const cursor_tag_bytes = 2;

/** Body of the answer to an Add. */
export function addReply(first_cursor: number | null): Uint8Array[] {
  return [
    encode(
      'AddResponse',
      first_cursor === null ? { redirect_addr: {} } : { cursor_id: BigInt(first_cursor), redirect_addr: {} },
    ),
  ];
}

/** Body of a refusal, of an Add or of a Get. */
export function refusalReply(redirect: StoreAddress | null): Uint8Array[] {
  return [encode('AddResponse', { redirect_addr: redirect ?? {} })];
}

/** Body of the answer to a Get. */
export function getReply(items: readonly FoundItem[], cursors: CursorPair): Uint8Array[] {
  const tail = encode('GetResponse', {
    prev_cursor_id: cursorToWire(cursors.prev),
    next_cursor_id: cursorToWire(cursors.next),
    redirect_addr: {},
  });
  return items.length === 0 ? [tail] : [frameItems(items), tail];
}

function frameItems(items: readonly FoundItem[]): Uint8Array {
  let total = 0;
  for (const item of items) {
    const stamped_bytes = stampedBytes(item);
    total += 1 + varintBytes(stamped_bytes) + stamped_bytes;
  }
  const frame = new Uint8Array(total);
  let at = 0;
  for (const item of items) {
    frame[at] = item_tag;
    at = writeVarint(frame, at + 1, stampedBytes(item));
    const { cursor_start, cursor_end } = item.fields;
    frame.set(item.bytes.subarray(0, cursor_start), at);
    at += cursor_start;
    frame.set(cursor_tag, at);
    at = writeVarint(frame, at + cursor_tag_bytes, item.cursor);
    frame.set(item.bytes.subarray(cursor_end), at);
    at += item.bytes.length - cursor_end;
  }
  return frame;
}

/** Bytes of an item once its cursor_id is replaced (or appended, where the sender gave none). */
function stampedBytes({ bytes, cursor, fields }: FoundItem): number {
  return bytes.length - (fields.cursor_end - fields.cursor_start) + cursor_tag_bytes + varintBytes(cursor);
}

function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) bytes += 1;
  return bytes;
}

function writeVarint(target: Uint8Array, at: number, value: number): number {
  let end = at;
  let rest = value;
  while (rest >= 128) {
    target[end] = (rest % 128) | 0x80;
    rest = Math.floor(rest / 128);
    end += 1;
  }
  target[end] = rest;
  return end + 1;
}
