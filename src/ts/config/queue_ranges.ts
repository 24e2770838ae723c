import type { Place, Reporter } from './report.js';

/** Most queues of one queue_info: a slip such as `0-20000000` must not fill the memory. */
export const QUEUES_PER_INFO_MAX = 100_000;
/** Largest queue id. */
const queue_id_max = 0x7fff_ffff;

/** The queue ids of `ranges`, each `"a-b"` or `"a"`, ascending by range. A bad range is reported and left out. */
export function queuesOfRanges(ranges: readonly string[], at: Place, report: Reporter): readonly number[] {
  const bounds: [number, number][] = [];
  let count = 0;
  for (const [i, range] of ranges.entries()) {
    const [, first = '', last = first] = /^(\d{1,10})(?:-(\d{1,10}))?$/.exec(range) ?? [];
    const low = Number(first);
    const high = Number(last);
    const place = { file: at.file, key: `${at.key}[${i}]` };
    if (first === '' || low > high || high > queue_id_max) {
      const what = `${JSON.stringify(range.slice(0, 60))} is not a range of queues`;
      report.error(place, what, 'write "7" or "0-9", each range as an element of its own');
      continue;
    }
    count += high - low + 1;
    if (count > QUEUES_PER_INFO_MAX) {
      report.error(place, 'too many queues', `have at most ${QUEUES_PER_INFO_MAX} in one queue_info`);
      break;
    }
    bounds.push([low, high]);
  }
  bounds.sort(([a_low, a_high], [b_low, b_high]) => a_low - b_low || a_high - b_high);
  return bounds.flatMap(([low, high]) => Array.from({ length: high - low + 1 }, (_, i) => low + i));
}
