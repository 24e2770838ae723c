/** Tells damage that a later record of the same key has made good from damage that is still there. */
import type { ScannedRecord } from '../../wal/segment_scan.js';
import type { Problem } from './survey.js';

export class Repairs {
  /** By key, the place of the latest record where that one is damaged. */
  private readonly latest = new Map<string, string>();

  /** Takes each entry and state record of the log, in order. */
  put(segment: number, { kind, group, instance, offset, damaged }: ScannedRecord): void {
    if (!damaged && this.latest.size === 0) return;
    const key = `${kind}/${group}/${instance}`;
    if (damaged) this.latest.set(key, `${segment}/${offset}`);
    else this.latest.delete(key);
  }

  /** Parts the problems of the whole log. */
  part(problems: readonly Problem[]): { readonly open: Problem[]; readonly repaired: Problem[] } {
    const places = new Set(this.latest.values());
    const isRepaired = ({ kind, segment, offset, group }: Problem): boolean => {
      return kind === 'corruption' && group !== null && !places.has(`${segment}/${offset}`);
    };
    return { open: problems.filter((problem) => !isRepaired(problem)), repaired: problems.filter(isRepaired) };
  }
}
