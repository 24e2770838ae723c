/** Who waits until the leadership of groups is handed over. */

interface Waiting {
  /** The ballot at which this replica led. */
  readonly ballot: number;
  readonly settle: (handed_over: boolean) => void;
}

export class HandOvers {
  readonly #waiting = new Map<number, Waiting>();

  /** Resolves to whether somebody else leads the group, at a higher ballot than `ballot`. */
  begin(group: number, ballot: number): Promise<boolean> {
    this.#settle(group, false);
    return new Promise((resolve) => {
      this.#waiting.set(group, { ballot, settle: resolve });
    });
  }

  /** The group refused. */
  refused(group: number): void {
    this.#settle(group, false);
  }

  /** How a group stands now: the new leader has spoken, or not yet. */
  look(group: number, ballot: number, led_by_other: boolean): void {
    const waiting = this.#waiting.get(group);
    if (waiting !== undefined && led_by_other && ballot > waiting.ballot) this.#settle(group, true);
  }

  /** Nobody waits any longer. */
  giveUp(): void {
    for (const group of [...this.#waiting.keys()]) this.#settle(group, false);
  }

  #settle(group: number, handed_over: boolean): void {
    const waiting = this.#waiting.get(group);
    this.#waiting.delete(group);
    waiting?.settle(handed_over);
  }
}
