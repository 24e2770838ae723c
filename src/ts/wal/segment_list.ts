/** Which segments a log consists of: what the names of its files and the high-water marks say together. */
import { segmentOfName } from './format.js';
import type { MarksRecord } from './marks.js';

export interface SegmentList {
  /** Segments whose files are there, ascending. */
  readonly ids: readonly number[];
  /** Files of segments that the marks say are removed: they are no part of the log. */
  readonly removed: readonly number[];
  /** Segments that the marks list and whose files are gone. */
  readonly missing: readonly number[];
}

export function listSegments(names: readonly string[], record: MarksRecord | null): SegmentList {
  const found = names.map(segmentOfName).filter((id) => id !== null);
  const listed = new Set(record?.segments ?? []);
  const highest = record?.segments.at(-1) ?? 0;
  const isRemoved = (id: number): boolean => id < highest && !listed.has(id);
  const there = new Set(found);
  return {
    ids: found.filter((id) => !isRemoved(id)).sort((a, b) => a - b),
    removed: found.filter(isRemoved),
    missing: [...listed].filter((id) => !there.has(id)),
  };
}

/** Up to where the segment `id` was durable, as far as is known. */
export function durableEnd(id: number, ids: readonly number[], record: MarksRecord | null): number {
  const durable = record?.durable ?? { segment: 0, offset: 0 };
  if (id !== ids.at(-1) || durable.segment > id) return Number.POSITIVE_INFINITY;
  return durable.segment === id ? durable.offset : 0;
}
