/** Notices groups that stay without a master. */

/** Without a master for this long the node says so, and again at this interval. */
const NO_MASTER_AFTER_MS = 1_500;
const NO_MASTER_REPEAT_MS = 5_000;

export class MastersWatch {
  readonly #since_ms: (number | null)[];
  #said_at_ms = Number.NEGATIVE_INFINITY;

  constructor(groups: number) {
    this.#since_ms = new Array<number | null>(groups).fill(null);
  }

  /** Takes whether each group has a known master now; returns the groups of which it is time to say that they have none. */
  look(now_ms: number, hasMaster: (group: number) => boolean): readonly number[] {
    const masterless: number[] = [];
    for (const [group, before] of this.#since_ms.entries()) {
      const since_ms = hasMaster(group) ? null : (before ?? now_ms);
      this.#since_ms[group] = since_ms;
      if (since_ms !== null && now_ms - since_ms >= NO_MASTER_AFTER_MS) masterless.push(group);
    }
    if (masterless.length === 0 || now_ms - this.#said_at_ms < NO_MASTER_REPEAT_MS) return [];
    this.#said_at_ms = now_ms;
    return masterless;
  }
}
