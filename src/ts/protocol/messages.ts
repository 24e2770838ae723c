/**
 * The messages of the client protocol as plain objects, and their bytes. Fields of type uint64 are `bigint`.
 *
 * A decoded message has all its scalar and repeated fields, with the default where the sender left one out; a
 * sub-message that was left out is undefined. An encoded message has exactly the fields that were given, zeros too.
 */

import Long from 'long';
import { google, phxqueue } from '#proto';
import { PhxError } from '../errors.js';

export interface Addr {
  ip: string;
  port: number;
  paxos_port: number;
}

export interface Cookie {
  key: string;
  val: Uint8Array;
}

export interface Cookies {
  cookies: Cookie[];
}

/** What stays as the producer wrote it, however often an item moves to another queue. */
export interface Meta {
  topic_id: number;
  handle_id: number;
  uin: bigint;
  consumer_group_ids: bigint;
  pub_id: number;
  hash: bigint;
  /** Seconds since 1970; `atime_ms` has the milliseconds within that second. */
  atime: bigint;
  atime_ms: number;
  client_id: string;
  user_cookies: Cookies | undefined;
}

export interface QItem {
  buffer: Uint8Array;
  buffer_type: number;
  consumer_group_ids: bigint;
  pub_id: number;
  /** Seconds since 1970; `atime_ms` has the milliseconds within that second. */
  atime: bigint;
  atime_ms: number;
  count: number;
  sys_cookies: Cookies | undefined;
  cursor_id: bigint;
  meta: Meta | undefined;
}

export interface ConsumerContext {
  topic_id: number;
  consumer_group_id: number;
  store_id: number;
  queue_id: number;
  prev_cursor_id: bigint;
  next_cursor_id: bigint;
}

export interface AddRequest {
  topic_id: number;
  store_id: number;
  queue_id: number;
  items: QItem[];
  master_addr: Addr | undefined;
}

export interface AddResponse {
  cursor_id: bigint;
  redirect_addr: Addr | undefined;
}

export interface GetRequest {
  topic_id: number;
  store_id: number;
  queue_id: number;
  limit: number;
  atime: bigint;
  consumer_group_id: number;
  atime_ms: number;
  prev_cursor_id: bigint;
  next_cursor_id: bigint;
  random: boolean;
  master_addr: Addr | undefined;
}

export interface GetResponse {
  items: QItem[];
  prev_cursor_id: bigint;
  next_cursor_id: bigint;
  redirect_addr: Addr | undefined;
}

export interface AddrScale {
  addr: Addr | undefined;
  scale: number;
}

export interface LoadInfo {
  cpu: number;
  proc_used_ratio: number;
}

export interface GetAddrScaleRequest {
  topic_id: number;
  addr: Addr | undefined;
  load_info: LoadInfo | undefined;
  master_addr: Addr | undefined;
}

export interface GetAddrScaleResponse {
  addr_scales: AddrScale[];
  redirect_addr: Addr | undefined;
}

export interface StringInfo {
  key: string;
  version: bigint;
  value: Uint8Array;
  lease_time_ms: bigint;
}

export interface StringKeyInfo {
  key: string;
  version: bigint;
}

export interface LockInfo {
  lock_key: string;
  version: bigint;
  client_id: string;
  lease_time_ms: bigint;
}

export interface GetStringRequest {
  topic_id: number;
  lock_id: number;
  key: string;
  master_addr: Addr | undefined;
}

export interface GetStringResponse {
  string_info: StringInfo | undefined;
  redirect_addr: Addr | undefined;
}

export interface SetStringRequest {
  topic_id: number;
  lock_id: number;
  string_info: StringInfo | undefined;
  master_addr: Addr | undefined;
}

export interface SetStringResponse {
  redirect_addr: Addr | undefined;
}

export interface DeleteStringRequest {
  topic_id: number;
  lock_id: number;
  string_key_info: StringKeyInfo | undefined;
  master_addr: Addr | undefined;
}

export interface DeleteStringResponse {
  redirect_addr: Addr | undefined;
}

export interface GetLockInfoRequest {
  topic_id: number;
  lock_id: number;
  lock_key: string;
  master_addr: Addr | undefined;
}

export interface GetLockInfoResponse {
  lock_info: LockInfo | undefined;
  redirect_addr: Addr | undefined;
}

export interface AcquireLockRequest {
  topic_id: number;
  lock_id: number;
  lock_info: LockInfo | undefined;
  master_addr: Addr | undefined;
}

export interface AcquireLockResponse {
  redirect_addr: Addr | undefined;
}

/** Request and response of PHXEcho. */
export interface StringValue {
  value: string;
}

/** All messages by name. */
export interface Messages {
  Addr: Addr;
  Cookie: Cookie;
  Cookies: Cookies;
  Meta: Meta;
  QItem: QItem;
  ConsumerContext: ConsumerContext;
  AddRequest: AddRequest;
  AddResponse: AddResponse;
  GetRequest: GetRequest;
  GetResponse: GetResponse;
  AddrScale: AddrScale;
  LoadInfo: LoadInfo;
  GetAddrScaleRequest: GetAddrScaleRequest;
  GetAddrScaleResponse: GetAddrScaleResponse;
  StringInfo: StringInfo;
  StringKeyInfo: StringKeyInfo;
  LockInfo: LockInfo;
  GetStringRequest: GetStringRequest;
  GetStringResponse: GetStringResponse;
  SetStringRequest: SetStringRequest;
  SetStringResponse: SetStringResponse;
  DeleteStringRequest: DeleteStringRequest;
  DeleteStringResponse: DeleteStringResponse;
  GetLockInfoRequest: GetLockInfoRequest;
  GetLockInfoResponse: GetLockInfoResponse;
  AcquireLockRequest: AcquireLockRequest;
  AcquireLockResponse: AcquireLockResponse;
  StringValue: StringValue;
}

export type MessageName = keyof Messages;

/** What `encode` takes for a message: any of its fields, at every depth. */
export type Init<T> = T extends Uint8Array | bigint | number | string | boolean | undefined
  ? T
  : T extends readonly (infer Element)[]
    ? readonly Init<Element>[]
    : { readonly [Field in keyof T]?: Init<T[Field]> | undefined };

/** The codec of a message in the generated code. */
interface Generated {
  encode(message: object): { finish(): Uint8Array };
  decode(bytes: Uint8Array): object;
}

const comm = phxqueue.comm.proto;

const generated: Record<MessageName, Generated> = {
  Addr: comm.Addr,
  Cookie: comm.Cookie,
  Cookies: comm.Cookies,
  Meta: comm.Meta,
  QItem: comm.QItem,
  ConsumerContext: comm.ConsumerContext,
  AddRequest: comm.AddRequest,
  AddResponse: comm.AddResponse,
  GetRequest: comm.GetRequest,
  GetResponse: comm.GetResponse,
  AddrScale: comm.AddrScale,
  LoadInfo: comm.LoadInfo,
  GetAddrScaleRequest: comm.GetAddrScaleRequest,
  GetAddrScaleResponse: comm.GetAddrScaleResponse,
  StringInfo: comm.StringInfo,
  StringKeyInfo: comm.StringKeyInfo,
  LockInfo: comm.LockInfo,
  GetStringRequest: comm.GetStringRequest,
  GetStringResponse: comm.GetStringResponse,
  SetStringRequest: comm.SetStringRequest,
  SetStringResponse: comm.SetStringResponse,
  DeleteStringRequest: comm.DeleteStringRequest,
  DeleteStringResponse: comm.DeleteStringResponse,
  GetLockInfoRequest: comm.GetLockInfoRequest,
  GetLockInfoResponse: comm.GetLockInfoResponse,
  AcquireLockRequest: comm.AcquireLockRequest,
  AcquireLockResponse: comm.AcquireLockResponse,
  StringValue: google.protobuf.StringValue,
};

/** Fields whose value is the same object here and in the generated code. */
type Same = 'same';
/** Fields of type uint64. */
type U64 = 'u64';
/** Sub-messages: one, or a list of them. */
type Sub = { readonly one: MessageName } | { readonly list: MessageName };
type Kind<Value> = [Value] extends [bigint]
  ? U64
  : [Value] extends [number | string | boolean | Uint8Array]
    ? Same
    : Sub;
type Shapes = {
  readonly [Name in MessageName]: { readonly [Field in keyof Messages[Name]]: Kind<Messages[Name][Field]> };
};

const addr = { one: 'Addr' } as const;
const redirect = { redirect_addr: addr } as const;
const lock_request = { topic_id: 'same', lock_id: 'same', master_addr: addr } as const;
const destination = { topic_id: 'same', store_id: 'same', queue_id: 'same' } as const;

const shapes: Shapes = {
  Addr: { ip: 'same', port: 'same', paxos_port: 'same' },
  Cookie: { key: 'same', val: 'same' },
  Cookies: { cookies: { list: 'Cookie' } },
  Meta: {
    topic_id: 'same',
    handle_id: 'same',
    uin: 'u64',
    consumer_group_ids: 'u64',
    pub_id: 'same',
    hash: 'u64',
    atime: 'u64',
    atime_ms: 'same',
    client_id: 'same',
    user_cookies: { one: 'Cookies' },
  },
  QItem: {
    buffer: 'same',
    buffer_type: 'same',
    consumer_group_ids: 'u64',
    pub_id: 'same',
    atime: 'u64',
    atime_ms: 'same',
    count: 'same',
    sys_cookies: { one: 'Cookies' },
    cursor_id: 'u64',
    meta: { one: 'Meta' },
  },
  ConsumerContext: { ...destination, consumer_group_id: 'same', prev_cursor_id: 'u64', next_cursor_id: 'u64' },
  AddRequest: { ...destination, items: { list: 'QItem' }, master_addr: addr },
  AddResponse: { cursor_id: 'u64', ...redirect },
  GetRequest: {
    ...destination,
    limit: 'same',
    atime: 'u64',
    consumer_group_id: 'same',
    atime_ms: 'same',
    prev_cursor_id: 'u64',
    next_cursor_id: 'u64',
    random: 'same',
    master_addr: addr,
  },
  GetResponse: { items: { list: 'QItem' }, prev_cursor_id: 'u64', next_cursor_id: 'u64', ...redirect },
  AddrScale: { addr, scale: 'same' },
  LoadInfo: { cpu: 'same', proc_used_ratio: 'same' },
  GetAddrScaleRequest: { topic_id: 'same', addr, load_info: { one: 'LoadInfo' }, master_addr: addr },
  GetAddrScaleResponse: { addr_scales: { list: 'AddrScale' }, ...redirect },
  StringInfo: { key: 'same', version: 'u64', value: 'same', lease_time_ms: 'u64' },
  StringKeyInfo: { key: 'same', version: 'u64' },
  LockInfo: { lock_key: 'same', version: 'u64', client_id: 'same', lease_time_ms: 'u64' },
  GetStringRequest: { ...lock_request, key: 'same' },
  GetStringResponse: { string_info: { one: 'StringInfo' }, ...redirect },
  SetStringRequest: { ...lock_request, string_info: { one: 'StringInfo' } },
  SetStringResponse: redirect,
  DeleteStringRequest: { ...lock_request, string_key_info: { one: 'StringKeyInfo' } },
  DeleteStringResponse: redirect,
  GetLockInfoRequest: { ...lock_request, lock_key: 'same' },
  GetLockInfoResponse: { lock_info: { one: 'LockInfo' }, ...redirect },
  AcquireLockRequest: { ...lock_request, lock_info: { one: 'LockInfo' } },
  AcquireLockResponse: redirect,
  StringValue: { value: 'same' },
};

/** The table above, ready to be walked. */
const fields_of = new Map<MessageName, readonly (readonly [string, Same | U64 | Sub])[]>(
  // The keys of `shapes` are exactly the message names; Object.entries forgets that.
  Object.entries(shapes).map(([name, shape]) => [name as MessageName, Object.entries(shape)]),
);

/**
 * Decodes a message. Its byte fields are views into `bytes`. Throws PhxError PROTOBUF_PARSE if `bytes` are not such a
 * message; unknown fields are skipped.
 */
export function decode<Name extends MessageName>(name: Name, bytes: Uint8Array): Messages[Name] {
  try {
    return fromGenerated(name, generated[name].decode(bytes)) as unknown as Messages[Name];
  } catch (cause) {
    throw new PhxError('PROTOBUF_PARSE', `${bytes.length} bytes are not a ${name}`, { cause });
  }
}

/** Encodes a message: the fields that are given and not undefined, in the order of their numbers. */
export function encode<Name extends MessageName>(name: Name, message: Init<Messages[Name]>): Uint8Array {
  return generated[name].encode(toGenerated(name, message as object)).finish();
}

function fromGenerated(name: MessageName, message: object): Record<string, unknown> {
  const source = message as Record<string, unknown>;
  const target: Record<string, unknown> = {};
  for (const [field, kind] of fields_of.get(name) ?? []) {
    const value = source[field];
    if (kind === 'same') target[field] = value;
    else if (kind === 'u64') target[field] = toBigint(value as Long);
    else if ('one' in kind) target[field] = value == null ? undefined : fromGenerated(kind.one, value as object);
    else target[field] = (value as object[]).map((element) => fromGenerated(kind.list, element));
  }
  return target;
}

function toGenerated(name: MessageName, message: object): object {
  const source = message as Record<string, unknown>;
  const target: Record<string, unknown> = {};
  for (const [field, kind] of fields_of.get(name) ?? []) {
    const value = source[field];
    if (value === undefined) continue;
    if (kind === 'same') target[field] = value;
    else if (kind === 'u64') target[field] = toLong(value as bigint);
    else if ('one' in kind) target[field] = toGenerated(kind.one, value as object);
    else target[field] = (value as object[]).map((element) => toGenerated(kind.list, element));
  }
  return target;
}

const u64_max = 0xffff_ffff_ffff_ffffn;

function toBigint({ low, high }: Long): bigint {
  if (high === 0) return BigInt(low >>> 0);
  if (high === -1 && low === -1) return u64_max;
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

function toLong(value: bigint): Long {
  return new Long(Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n)), true);
}
