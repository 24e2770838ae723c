import { type Addr, encode } from '../protocol/messages.js';

/** Field 50 of an AddRequest, with a length: its tag takes two bytes. */
const ITEM_TAG = [0x92, 0x03] as const;
const LENGTH_BYTES_MAX = 5;

/** The request without its items and the address of the server that it goes to. */
export interface AddHead {
  readonly topic_id: number;
  readonly store_id: number;
  readonly queue_id: number;
}

/**
 * Encodes an AddRequest around items that are encoded already, so that an item is encoded once, however often and
 * wherever it is sent. The function that comes back completes the request for one server.
 */
export function addBody({ topic_id, store_id, queue_id }: AddHead, items: readonly Uint8Array[]) {
  const head = encode('AddRequest', { topic_id, store_id, queue_id });
  const parts = [head];
  for (const item of items) parts.push(itemPrefix(item.length), item);
  return (target: Addr): Uint8Array => {
    const { ip, port, paxos_port } = target;
    return Buffer.concat([...parts, encode('AddRequest', { master_addr: { ip, port, paxos_port } })]);
  };
}

function itemPrefix(length: number): Uint8Array {
  const prefix = new Uint8Array(ITEM_TAG.length + LENGTH_BYTES_MAX);
  prefix.set(ITEM_TAG);
  let at = ITEM_TAG.length;
  let rest = length;
  while (rest >= 0x80) {
    prefix[at] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
    at += 1;
  }
  prefix[at] = rest;
  return prefix.subarray(0, at + 1);
}
