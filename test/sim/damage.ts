/** Damage of a log at rest: one bit of what was durable, where the log promises to notice. */
import { segmentName } from '../../src/ts/wal/format.js';
import { MARKS_NAME, readMarks } from '../../src/ts/wal/marks.js';
import type { SimDisk } from '../wal/sim_disk.js';
import type { Random } from './random.js';

/** Only the marks tell damage of the last batch from an unfinished write. */
const AT_END = 0.7;
const END_BYTES = 300;

/**
 * Flips a bit in a segment before the position up to which the marks call the log durable. Damage behind it cannot be told from
 * an unfinished write, and no log promises to notice it. Returns what was done, or null if there is nothing to damage.
 */
export function damage(disk: SimDisk, identity: Uint8Array, random: Random): string | null {
  const marks = disk.find(MARKS_NAME)?.bytes();
  if (marks === undefined) return null;
  const { record } = readMarks(marks, identity);
  if (record === null) return null;
  const { durable } = record;
  const segments = record.segments.filter((id) => id <= durable.segment && disk.find(segmentName(id)) !== null);
  if (segments.length === 0) return null;
  const atEnd = random.chance(AT_END);
  const segment = atEnd ? durable.segment : random.pick(segments);
  const inode = disk.find(segmentName(segment));
  if (inode === null) return null;
  const end = segment === durable.segment ? durable.offset : inode.size;
  const at = random.integer(atEnd ? Math.max(0, end - END_BYTES) : 0, end - 1);
  const [byte] = inode.bytes().subarray(at);
  inode.write(Buffer.from([(byte ?? 0) ^ (1 << random.integer(0, 7))]), at);
  inode.settle(new Set(inode.pending));
  return `a bit at byte ${at} of segment ${segment}`;
}
