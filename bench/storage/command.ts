/** What the benchmark asks of the processes that it measures in, and the figures that they answer with. */
import type { LogEngine } from '../../src/ts/wal/engine.js';

export type EngineName = LogEngine['engine'];

/** `growing` is the portable engine with files that grow, `limit` no engine but a plain loop of writes and syncs. */
export type Subject = EngineName | 'growing' | 'limit';

export interface OpenOptions {
  readonly subject: Subject;
  readonly folder: string;
  readonly segment_bytes: number;
  readonly sync: boolean;
}

export type Command =
  | ({ readonly task: 'open' } & OpenOptions)
  | { readonly task: 'prime' }
  | { readonly task: 'appends'; readonly bytes: number; readonly outstanding: number; readonly seconds: number }
  | { readonly task: 'limit'; readonly batch_bytes: number; readonly seconds: number }
  | { readonly task: 'add'; readonly items: number; readonly bytes: number; readonly seconds: number }
  | { readonly task: 'parse'; readonly items: number; readonly bytes: number; readonly seconds: number }
  | { readonly task: 'fill'; readonly records: number; readonly bytes: number }
  | { readonly task: 'ranges'; readonly records: number; readonly entries: number; readonly seconds: number }
  | { readonly task: 'memory' }
  | { readonly task: 'close' };

export type Task = Command['task'];

/** Named numbers. */
export type Figures<K extends string = string> = Readonly<Record<K, number>>;

/** Whether the value is an object with a number under each of the keys. */
export function hasFigures<K extends string>(value: unknown, keys: readonly K[]): value is Figures<K> {
  if (typeof value !== 'object' || value === null) return false;
  const found = new Map<string, unknown>(Object.entries(value));
  return keys.every((key) => typeof found.get(key) === 'number');
}

/** Both ends are one program: the task tells the rest. */
export function isCommand(value: unknown): value is Command {
  return typeof value === 'object' && value !== null && 'task' in value;
}

export const LOOP_KEYS = ['per_s', 'p50_us', 'p99_us', 'loop_ns', 'thread_cpu_ns', 'process_cpu_ns'] as const;
export type LoopKey = (typeof LOOP_KEYS)[number];
export const APPEND_KEYS = [...LOOP_KEYS, 'batch_records', 'batch_bytes', 'rewritten_bytes'] as const;
export type AppendKey = (typeof APPEND_KEYS)[number];
export const LIMIT_KEYS = ['batches_per_s', 'p50_us', 'p99_us'] as const;
export type LimitKey = (typeof LIMIT_KEYS)[number];
export const PARSE_KEYS = ['item_ns'] as const;
export const READ_KEYS = ['wall_us', 'loop_us'] as const;
export type ReadKey = (typeof READ_KEYS)[number];
export const OPEN_KEYS = ['wall_ms', 'elapsed_ms', 'records', 'bytes'] as const;
export type OpenKey = (typeof OPEN_KEYS)[number];
export const MEMORY_KEYS = ['index_bytes', 'rss_bytes', 'heap_bytes', 'external_bytes'] as const;
export type MemoryKey = (typeof MEMORY_KEYS)[number];
