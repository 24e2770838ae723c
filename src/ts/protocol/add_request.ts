/**
 * Looks into Add requests and items as far as a store must, without decoding them: the bytes stay where they are. What
 * these functions accept, a protobuf decoder accepts too, and reads the same values.
 */
import { WireReader, WireType } from './wire_reader.js';

/** Where an item lies within the body of its Add request. */
export interface ItemRange {
  readonly start: number;
  readonly end: number;
}

/** The outer fields of an Add request. */
export interface AddRequestScan {
  readonly topic_id: number;
  readonly store_id: number;
  readonly queue_id: number;
  readonly items: readonly ItemRange[];
}

/** The fields of an item that a store looks at; `topic_id`, `uin` and `handle_id` are those of its meta. */
export interface ItemFields {
  readonly topic_id: number;
  readonly pub_id: number;
  readonly uin: bigint;
  readonly handle_id: number;
  readonly consumer_group_ids: bigint;
  /** Seconds since 1970; `atime_ms` has the milliseconds within that second. */
  readonly atime: number;
  readonly atime_ms: number;
  readonly count: number;
  /** Byte range of the last field cursor_id, tag included; both are the length of the item if it has none. */
  readonly cursor_start: number;
  readonly cursor_end: number;
}

const varint = WireType.varint;
const bytes = WireType.bytes;

const RequestTag = {
  topic_id: (1 << 3) | varint,
  store_id: (2 << 3) | varint,
  queue_id: (3 << 3) | varint,
  items: (50 << 3) | bytes,
  master_addr: (100 << 3) | bytes,
} as const;

const ItemTag = {
  consumer_group_ids: (8 << 3) | varint,
  pub_id: (9 << 3) | varint,
  atime: (51 << 3) | varint,
  atime_ms: (52 << 3) | varint,
  count: (54 << 3) | varint,
  sys_cookies: (62 << 3) | bytes,
  cursor_id: (101 << 3) | varint,
  meta: (201 << 3) | bytes,
} as const;

const MetaTag = {
  topic_id: (2 << 3) | varint,
  handle_id: (3 << 3) | varint,
  uin: (5 << 3) | varint,
  user_cookies: (61 << 3) | bytes,
} as const;

const cookies_tag = (1 << 3) | bytes;

/** Finds the items of an Add request. Throws PhxError PROTOBUF_PARSE; does not look into the items. */
export function scanAddRequest(body: Uint8Array): AddRequestScan {
  const reader = new WireReader(body);
  const items: ItemRange[] = [];
  let topic_id = 0;
  let store_id = 0;
  let queue_id = 0;
  while (reader.pos < reader.end) {
    const tag = reader.tag();
    switch (tag) {
      case RequestTag.items: {
        const end = reader.contentEnd();
        items.push({ start: reader.pos, end });
        reader.pos = end;
        break;
      }
      case RequestTag.topic_id:
        topic_id = reader.int32();
        break;
      case RequestTag.store_id:
        store_id = reader.int32();
        break;
      case RequestTag.queue_id:
        queue_id = reader.int32();
        break;
      case RequestTag.master_addr:
        checkFields(reader);
        break;
      default:
        reader.skip(tag);
    }
  }
  return { topic_id, store_id, queue_id, items };
}

/** Reads the fields of one item and checks the rest of it. Throws PhxError PROTOBUF_PARSE. */
export function scanItem(item: Uint8Array): ItemFields {
  const reader = new WireReader(item);
  const fields = {
    topic_id: 0,
    pub_id: 0,
    uin: 0n,
    handle_id: 0,
    consumer_group_ids: 0n,
    atime: 0,
    atime_ms: 0,
    count: 0,
    cursor_start: item.length,
    cursor_end: item.length,
  };
  while (reader.pos < reader.end) {
    const start = reader.pos;
    const tag = reader.tag();
    switch (tag) {
      case ItemTag.consumer_group_ids:
        fields.consumer_group_ids = reader.uint64();
        break;
      case ItemTag.pub_id:
        fields.pub_id = reader.int32();
        break;
      case ItemTag.atime:
        fields.atime = reader.uint64Number();
        break;
      case ItemTag.atime_ms:
        fields.atime_ms = reader.uint32();
        break;
      case ItemTag.count:
        fields.count = reader.uint32();
        break;
      case ItemTag.cursor_id:
        reader.varint();
        fields.cursor_start = start;
        fields.cursor_end = reader.pos;
        break;
      case ItemTag.meta:
        scanMeta(reader, fields);
        break;
      case ItemTag.sys_cookies:
        checkCookies(reader);
        break;
      default:
        reader.skip(tag);
    }
  }
  return fields;
}

function scanMeta(reader: WireReader, meta: { topic_id: number; handle_id: number; uin: bigint }): void {
  const outer_end = enter(reader);
  while (reader.pos < reader.end) {
    const tag = reader.tag();
    switch (tag) {
      case MetaTag.topic_id:
        meta.topic_id = reader.int32();
        break;
      case MetaTag.handle_id:
        meta.handle_id = reader.int32();
        break;
      case MetaTag.uin:
        meta.uin = reader.uint64();
        break;
      case MetaTag.user_cookies:
        checkCookies(reader);
        break;
      default:
        reader.skip(tag);
    }
  }
  reader.end = outer_end;
}

function checkCookies(reader: WireReader): void {
  const outer_end = enter(reader);
  while (reader.pos < reader.end) {
    const tag = reader.tag();
    if (tag === cookies_tag) checkFields(reader);
    else reader.skip(tag);
  }
  reader.end = outer_end;
}

function checkFields(reader: WireReader): void {
  const outer_end = enter(reader);
  while (reader.pos < reader.end) reader.skip(reader.tag());
  reader.end = outer_end;
}

/** Narrows the reader to the content of the field whose tag was just read; returns where it ended before. */
function enter(reader: WireReader): number {
  const outer_end = reader.end;
  reader.end = reader.contentEnd();
  return outer_end;
}
