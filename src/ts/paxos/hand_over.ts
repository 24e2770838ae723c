/** Who waits until the leadership of groups is handed over. */
import type { Ballot } from './core/ballot.js';
import type { Group } from './core/group.js';

/** Somebody else leads; this replica was elected once more; it was refused, or the time is over. */
type HandOverOutcome = 'done' | 'back' | 'failed';

interface Waiting {
  /** The highest ballot that this replica had heard of when it led. */
  readonly ballot: Ballot;
  readonly settle: (outcome: HandOverOutcome) => void;
}

export class HandOvers {
  readonly #waiting = new Map<number, Waiting>();

  /** Hands over all groups that this replica leads; `transfer` asks one to, or returns false. Resolves to how many others lead. */
  async all(groups: readonly Group[], transfer: (group: number) => boolean): Promise<number> {
    const led = [...groups.entries()].filter(([, core]) => core.role === 'leader');
    const outcomes = await Promise.all(led.map(([group, core]) => this.#one(group, core, transfer)));
    return outcomes.filter((outcome) => outcome === 'done').length;
  }

  async #one(group: number, core: Group, transfer: (group: number) => boolean): Promise<HandOverOutcome> {
    let outcome: HandOverOutcome = 'back';
    while (outcome === 'back') {
      const settled = this.#begin(group, core);
      if (!transfer(group)) this.#settle(group, 'failed');
      outcome = await settled;
    }
    return outcome;
  }

  /** Waits for what becomes of a group that this replica leads, and is about to hand over. */
  #begin(group: number, core: Group): Promise<HandOverOutcome> {
    this.#settle(group, 'failed');
    return new Promise((settle) => {
      this.#waiting.set(group, { ballot: core.highest_ballot, settle });
    });
  }

  /** The group refused. */
  refused(group: number): void {
    this.#settle(group, 'failed');
  }

  /** Looks how a group stands now: whether a new leader has spoken. */
  look(group: number, core: Group): void {
    const waiting = this.#waiting.get(group);
    if (waiting === undefined || core.highest_ballot <= waiting.ballot) return;
    if (core.role === 'leader') this.#settle(group, 'back');
    else if (core.leader !== null && core.leader !== core.self) this.#settle(group, 'done');
  }

  /** Nobody waits any longer. */
  giveUp(): void {
    for (const group of [...this.#waiting.keys()]) this.#settle(group, 'failed');
  }

  #settle(group: number, outcome: HandOverOutcome): void {
    const waiting = this.#waiting.get(group);
    this.#waiting.delete(group);
    waiting?.settle(outcome);
  }
}
